"""What a recipe must know of each loss, without torch. Tests hold it to `LOSSES`."""

from __future__ import annotations

from mmpo.loss_entries import basic, diffusion, lists, point, reference, reference_extra, reference_free, tokens
from mmpo.loss_entry import LossEntry, Option

LOSS_TABLE: dict[str, LossEntry] = {
    **basic.ENTRIES,
    **reference.ENTRIES,
    **reference_extra.ENTRIES,
    **reference_free.ENTRIES,
    **point.ENTRIES,
    **lists.ENTRIES,
    **diffusion.ENTRIES,
    **tokens.ENTRIES,
}

__all__ = ["LOSS_TABLE", "LossEntry", "Option"]
