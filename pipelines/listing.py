"""`mmpo losses`: what `method.loss` can be, from the table that the recipe is checked with. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from mmpo.beta import CONVENTIONS
from mmpo.citations import CITATIONS, papers_of
from mmpo.loss_entry import LossEntry, Option, Value
from mmpo.loss_feeds import COLUMNS, COMPUTED, feeds_of, untrainable
from mmpo.loss_names import explain, resolve
from mmpo.loss_table import LOSS_TABLE
from pipelines.text_columns import WIDTH, paragraph, wrapped_row

_HEAD = ("loss", "what it is", "of", "options", "needs", "recipe", "paper")
_WIDEST = (21, 20, 5, 20, 6, 6, 10)
"""Columns of the table, with the gaps between them as wide as `WIDTH`; longer cells are wrapped."""
_LEGEND = (
    "of: what it is called with. options: the defaults for denoisers (for tokens where it is not for denoisers), set "
    "beside the loss, as method.beta=2000. needs: ref is a reference, len are numbers of tokens, +n are further "
    "tensors. recipe: whether recipes can train with it; the others are for loops of your own."
)
_FAMILIES = {
    "pair": "pairs: a chosen and a rejected candidate, log-likelihoods [B]",
    "point": "single candidates, each labelled desirable or not, log-likelihoods [B]",
    "list": "ranked lists of K candidates, log-likelihoods [B, K]",
    "token": "tokens (or steps) of answers, log-probabilities [B, T]",
}


def losses_lines(table: Mapping[str, LossEntry] = LOSS_TABLE) -> Iterator[str]:
    """A table of the losses, then what its columns mean and where to go on."""
    rows = [_HEAD, *(_row(name, table) for name in table)]
    longest = [max(len(line) for row in rows for line in row[i].splitlines()) for i in range(len(_HEAD))]
    widths = [min(pair) for pair in zip(_WIDEST, longest, strict=True)]
    for row in rows:
        yield from wrapped_row(row, widths)
    yield ""
    yield from paragraph("", _LEGEND)
    yield "beta and tau are in method.beta_convention (default half_mean):"
    for name, words in CONVENTIONS.items():
        yield f"  {name}: {words}"
    yield "next: mmpo losses NAME for one of them in full, then mmpo train RECIPE method.loss=NAME --dry-run"


def loss_lines(name: str, table: Mapping[str, LossEntry] = LOSS_TABLE) -> Iterator[str]:
    """One loss in full; other names of it are understood.

    Raises:
        ValueError: an unknown name, or one that several methods share.
    """
    ours = resolve(name, table)
    entry = table[ours]
    yield f"{ours}: {entry.title}"
    for word in dict.fromkeys((name, ours)):
        yield from paragraph("", explain(word))
    yield ""
    yield from paragraph("formula: ", entry.formula)
    yield from paragraph("called with: ", _FAMILIES[entry.family])
    yield from paragraph("reference: ", "needed" if entry.needs_reference else "none")
    yield from _options(entry)
    for keyword, meaning in entry.extra.items():
        yield from paragraph(f"needs {keyword}: ", meaning)
    yield from _sources(entry)
    reason = untrainable(entry)
    yield from paragraph("in recipes: ", f"no, it {reason}" if reason else "yes")
    yield from paragraph("on denoisers: ", entry.on_surrogates)
    yield from paragraph("not verified: ", entry.unverified)
    yield from _references(ours, table)
    yield ""
    yield f"""in Python: help(LOSSES["{ours}"]) after `from mmpo.losses import LOSSES`"""
    if not reason:
        yield f"next: mmpo train RECIPE method.loss={ours} --dry-run"


def _sources(entry: LossEntry) -> Iterator[str]:
    """Where a recipe gets each further tensor of a loss that it can train with."""
    if untrainable(entry):
        return
    for keyword, feed in feeds_of(entry).items():
        if feed in COMPUTED:
            yield from paragraph(f"  {keyword} is computed: ", COMPUTED[feed])
        elif feed in COLUMNS:
            yield f"  {keyword} is a column of the data, or data.columns={{{keyword}: THEIRS}}"
        else:
            yield f"  {keyword} is given beside the loss: method.{keyword}=[0.7, 0.3]"


def _row(name: str, table: Mapping[str, LossEntry]) -> tuple[str, ...]:
    entry = table[name]
    tokens = bool(entry.not_for_surrogates)
    options = "\n".join(
        f"{option} {_value(bounds.default if tokens else bounds.surrogate)}" for option, bounds in entry.options.items()
    )
    needs = ["ref"] if entry.needs_reference else []
    needs += ["len"] if entry.needs_lengths else []
    needs += [f"+{len(entry.extra)}"] if entry.extra else []
    trains = "no" if untrainable(entry) else "yes"
    return name, entry.title, entry.family, options or "-", " ".join(needs) or "-", trains, _papers(name, table)


def _papers(name: str, table: Mapping[str, LossEntry]) -> str:
    return "\n".join(papers_of(name, table)) or table[name].paper or "-"


def _options(entry: LossEntry) -> Iterator[str]:
    if not entry.options:
        yield "options: none"
        return
    yield "options:"
    rows = [("", "tokens", "denoisers", "may be")]
    rows += [
        (name, _value(bounds.default), "-" if entry.not_for_surrogates else _value(bounds.surrogate), _allowed(bounds))
        for name, bounds in entry.options.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        start = "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + "  "
        yield from textwrap.wrap(start + row[3], WIDTH, subsequent_indent=" " * len(start), drop_whitespace=True)


def _allowed(bounds: Option) -> str:
    if bounds.choices:
        return ", ".join(bounds.choices)
    if isinstance(bounds.default, bool):
        return "true, false"
    return f"a number{bounds.bounds}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:g}"


def _references(name: str, table: Mapping[str, LossEntry]) -> Iterator[str]:
    if not table[name].paper:
        return
    yield "references:"
    numbers = papers_of(name, table)
    for number in numbers:
        paper = CITATIONS.get(number)
        words = f"arXiv {number}" if paper is None else f"{paper.byline}{paper.title}, {paper.year}, arXiv {number}"
        yield from paragraph("  ", words)
    if not numbers:
        yield from paragraph("  ", table[name].paper)
