"""The papers behind losses and adapters, and their BibTeX. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mmpo.citation import Citation
from mmpo.citation_entries import answers, diffusion, free, others, pairs
from mmpo.loss_entry import LossEntry
from mmpo.loss_table import LOSS_TABLE

DIFFUSION_DPO = "2311.12908"
LORA = "2106.09685"
CITATIONS: dict[str, Citation] = {
    **pairs.ENTRIES,
    **free.ENTRIES,
    **others.ENTRIES,
    **diffusion.ENTRIES,
    **answers.ENTRIES,
}
"""Papers by arXiv id."""


def papers_of(loss: str, table: Mapping[str, LossEntry] = LOSS_TABLE) -> list[str]:
    """arXiv ids that a loss's table entry names, in its order; none for a loss that is not in the table."""
    entry = table.get(loss)
    return re.findall(r"\d{4}\.\d{4,5}", entry.paper) if entry else []


def papers_used(losses: Sequence[str], *, lora: bool) -> list[str]:
    """arXiv ids behind one run of an image generator, each once.

    Args:
        losses: names in `LOSS_TABLE`. A loss with a reference is used on the denoising surrogate of Diffusion-DPO.
        lora: whether a LoRA was trained.
    """
    entries = [LOSS_TABLE[loss] for loss in losses if loss in LOSS_TABLE]
    surrogate = [DIFFUSION_DPO] if any(entry.needs_reference for entry in entries) else []
    wanted = [*(paper for loss in losses for paper in papers_of(loss)), *surrogate, *([LORA] if lora else [])]
    return [key for key in dict.fromkeys(wanted) if key in CITATIONS]


def bibtex(keys: Iterable[str]) -> str:
    """BibTeX entries of these arXiv ids.

    Raises:
        ValueError: an id without an entry in `CITATIONS`.
    """
    entries = []
    for key in keys:
        if key not in CITATIONS:
            raise ValueError(f"citation '{key}': no entry of that arXiv id; known: {', '.join(CITATIONS)}")
        paper = CITATIONS[key]
        note = [f"  note = {{{paper.venue}}},"] if paper.venue else []
        authors = [f"  author = {{{' and '.join(paper.authors)}}},"] if paper.authors else []
        title = paper.title.replace("&", r"\&")
        lines = [
            f"@misc{{{paper.key},",
            f"  title = {{{{{title}}}}},",
            *authors,
            f"  year = {{{paper.year}}},",
            *note,
            f"  eprint = {{{key}}},",
            "  archivePrefix = {arXiv},",
            "}",
        ]
        entries.append("\n".join(lines))
    return "\n\n".join(entries)
