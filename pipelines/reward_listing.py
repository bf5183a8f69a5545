"""`mmpo rewards`: what a recipe's `evaluation.rewards` and `mmpo label --reward` can be. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import rewards
from mmpo.suggest import one_of
from pipelines.text_columns import WIDTH, paragraph, wrapped_row
from rewards.reward_entry import RewardEntry
from rewards.table import REWARD_TABLE

_HEAD = ("reward", "what it is", "scores", "weights", "licence")
_WIDEST = (16, 32, 8, 24, 12)
"""Columns of the table, with the gaps between them not wider than `WIDTH`; longer cells are wrapped."""
_SCORES = {
    "image": "an image for a prompt",
    "response": "a text answer to a question about an image",
    "pair": "two candidates of a prompt, against each other",
}


def rewards_lines(table: Mapping[str, RewardEntry] = REWARD_TABLE) -> Iterator[str]:
    """A table of the rewards, those of other packages by what is called, then where to go on."""
    rows = [_HEAD, *(_row(name, entry) for name, entry in table.items())]
    rows += [(name, f"of another package: {target}", "-", "-", "-") for name, target in _others(table).items()]
    longest = [max(len(line) for row in rows for line in row[i].splitlines()) for i in range(len(_HEAD))]
    widths = [min(pair) for pair in zip(_WIDEST, longest, strict=True)]
    for row in rows:
        yield from wrapped_row(row, widths)
    yield ""
    yield from paragraph("", "Weights come from the hub by the names above, or from a folder or file of your own.")
    yield "next: mmpo rewards NAME for one of them in full"


def reward_lines(name: str, table: Mapping[str, RewardEntry] = REWARD_TABLE) -> Iterator[str]:
    """One reward in full.

    Raises:
        ValueError: an unknown name, with the nearest that there is.
    """
    others = _others(table)
    if name not in table and name not in others:
        raise ValueError(f"reward: {one_of(name, [*table, *others])}")
    if name in table:
        yield from _whole(name, table[name])
    else:
        yield f"{name}: of another package, {others[name]}; its documentation says what it does"
    yield ""
    yield f'in Python: rewards.load("{name}"), after `import rewards`'
    yield from paragraph("", f"in a recipe: evaluation.rewards: [{name}] or [{{name: {name}, OPTION: VALUE}}]")
    yield f"next: mmpo label DATASET --reward {name} --output DIR"


def _whole(name: str, entry: RewardEntry) -> Iterator[str]:
    yield from paragraph("", f"{name}: {entry.title}")
    yield ""
    yield from paragraph("scores: ", "; ".join(_SCORES[kind] for kind in entry.takes))
    yield from paragraph("range: ", f"{entry.range}; higher is better")
    yield from paragraph("preprocessing: ", entry.preprocessing)
    yield from paragraph("weights: ", entry.weights or "none")
    yield from paragraph("licence: ", entry.licence)
    yield from paragraph("paper: ", entry.paper)
    yield "options:" if entry.options else "options: none"
    longest = max(map(len, entry.options), default=0)
    for option, meaning in entry.options.items():
        yield from wrapped_row(("", option, meaning), (0, longest, WIDTH - longest - 4))
    yield from paragraph("not verified: ", entry.unverified)


def _row(name: str, entry: RewardEntry) -> tuple[str, ...]:
    weights = "\n".join("/\n".join(part.rsplit("/", 1)) for part in entry.weights.split("; "))  # where names may break
    return name, entry.title, " ".join(entry.takes), weights or "-", entry.licence or "-"


def _others(table: Mapping[str, RewardEntry]) -> dict[str, str]:
    return {name: target for name, target in sorted(rewards.names().items()) if name not in {**REWARD_TABLE, **table}}
