"""The papers behind losses and adapters, as literal data, and their BibTeX. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mmpo.loss_table import LOSS_TABLE

DIFFUSION_DPO = "2311.12908"
LORA = "2106.09685"


@dataclass(frozen=True, slots=True)
class Citation:
    """One paper.

    Args:
        key: of its BibTeX entry.
        authors: full names in the paper's order.
        title: as printed.
        year: of the first version on arXiv.
        venue: where it was published, or "" where only arXiv is known.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str = ""


CITATIONS: dict[str, Citation] = {
    "2305.18290": Citation(
        "rafailov2023direct",
        (
            "Rafael Rafailov",
            "Archit Sharma",
            "Eric Mitchell",
            "Stefano Ermon",
            "Christopher D. Manning",
            "Chelsea Finn",
        ),
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        2023,
        "NeurIPS 2023",
    ),
    DIFFUSION_DPO: Citation(
        "wallace2023diffusion",
        (
            "Bram Wallace",
            "Meihua Dang",
            "Rafael Rafailov",
            "Linqi Zhou",
            "Aaron Lou",
            "Senthil Purushwalkam",
            "Stefano Ermon",
            "Caiming Xiong",
            "Shafiq Joty",
            "Nikhil Naik",
        ),
        "Diffusion Model Alignment Using Direct Preference Optimization",
        2023,
        "CVPR 2024",
    ),
    "2305.10425": Citation(
        "zhao2023slic",
        ("Yao Zhao", "Rishabh Joshi", "Tianqi Liu", "Misha Khalman", "Mohammad Saleh", "Peter J. Liu"),
        "SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
        2023,
    ),
    "2309.06657": Citation(
        "liu2023statistical",
        ("Tianqi Liu", "Yao Zhao", "Rishabh Joshi", "Misha Khalman", "Mohammad Saleh", "Peter J. Liu", "Jialu Liu"),
        "Statistical Rejection Sampling Improves Preference Optimization",
        2023,
        "ICLR 2024",
    ),
    "2310.12036": Citation(
        "azar2023general",
        (
            "Mohammad Gheshlaghi Azar",
            "Mark Rowland",
            "Bilal Piot",
            "Daniel Guo",
            "Daniele Calandriello",
            "Michal Valko",
            "Rémi Munos",
        ),
        "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        2023,
        "AISTATS 2024",
    ),
    "2408.09834": Citation(
        "xie2024minor",
        ("Shiming Xie", "Hong Chen", "Fred Yu", "Zeye Sun", "Xiuyu Wu", "Yingfan Hu"),
        "Minor DPO reject penalty to increase training robustness",
        2024,
    ),
    LORA: Citation(
        "hu2021lora",
        (
            "Edward J. Hu",
            "Yelong Shen",
            "Phillip Wallis",
            "Zeyuan Allen-Zhu",
            "Yuanzhi Li",
            "Shean Wang",
            "Lu Wang",
            "Weizhu Chen",
        ),
        "LoRA: Low-Rank Adaptation of Large Language Models",
        2021,
        "ICLR 2022",
    ),
}
"""Papers by arXiv id."""


def papers_of(loss: str) -> list[str]:
    """arXiv ids that a loss's table entry names, in its order; none for a loss that is not in the table."""
    entry = LOSS_TABLE.get(loss)
    return re.findall(r"\d{4}\.\d{4,5}", entry.paper) if entry else []


def papers_used(loss: str, *, lora: bool) -> list[str]:
    """arXiv ids behind one run of an image generator, each once.

    Args:
        loss: name in `LOSS_TABLE`. A loss with a reference is used on the denoising surrogate of Diffusion-DPO.
        lora: whether a LoRA was trained.
    """
    entry = LOSS_TABLE.get(loss)
    surrogate = [DIFFUSION_DPO] if entry is not None and entry.needs_reference else []
    wanted = [*papers_of(loss), *surrogate, *([LORA] if lora else [])]
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
        lines = [
            f"@misc{{{paper.key},",
            f"  title = {{{{{paper.title}}}}},",
            f"  author = {{{' and '.join(paper.authors)}}},",
            f"  year = {{{paper.year}}},",
            *note,
            f"  eprint = {{{key}}},",
            "  archivePrefix = {arXiv},",
            "}",
        ]
        entries.append("\n".join(lines))
    return "\n\n".join(entries)
