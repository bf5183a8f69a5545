"""`mmpo losses`: what `method.loss` can be, from the table that the recipe is checked with. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmpo.beta import CONVENTIONS
from mmpo.loss_table import LOSS_TABLE, LossEntry


def losses_lines(table: Mapping[str, LossEntry] = LOSS_TABLE) -> Iterator[str]:
    """A table of the losses, then what its columns mean and where to go on."""
    rows = [("loss", "what it is", "options", "reference", "paper")]
    rows += [
        (name, entry.title, _options(entry), "yes" if entry.needs_reference else "no", entry.paper or "-")
        for name, entry in table.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield "options: their defaults for the log-likelihoods of denoisers; set them beside the loss, as method.beta=2000"
    yield "beta and tau are in method.beta_convention (default half_mean):"
    for name, words in CONVENTIONS.items():
        yield f"  {name}: {words}"
    yield "next: mmpo train RECIPE method.loss=NAME --dry-run"


def _options(entry: LossEntry) -> str:
    return ", ".join(f"{name} {option.surrogate:g}" for name, option in entry.options.items()) or "-"
