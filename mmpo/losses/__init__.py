"""Preference losses as pure functions on log-likelihoods. Loads torch and itself only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmpo.losses.pairwise import dpo, hinge, ipo, minor_dpo, sft
from mmpo.losses.types import PairLogps

LOSSES: dict[str, Callable[..., Tensor]] = {
    "dpo": dpo,
    "hinge": hinge,
    "ipo": ipo,
    "minor_dpo": minor_dpo,
    "sft": sft,
}

__all__ = ["LOSSES", "PairLogps", "dpo", "hinge", "ipo", "minor_dpo", "sft"]
