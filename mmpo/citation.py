"""One paper, as what is cited. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Citation:
    """One paper.

    Args:
        key: of its BibTeX entry.
        authors: full names in the paper's order; empty where they are not known for certain.
        title: as printed.
        year: of the first version on arXiv.
        venue: where it was published, or "" where only arXiv is known.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str = ""

    @property
    def byline(self) -> str:
        """ "Rafailov et al., ", to stand before the title; empty where the authors are not known."""
        if not self.authors:
            return ""
        surnames = [author.split()[-1] for author in self.authors]
        return f"{' and '.join(surnames)}, " if len(surnames) <= 2 else f"{surnames[0]} et al., "


def paper(key: str, authors: str, title: str, year: int, venue: str = "") -> Citation:
    """A citation with its authors in one line, separated by commas."""
    return Citation(key, tuple(authors.split(", ")) if authors else (), title, year, venue)
