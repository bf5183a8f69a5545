"""`mmpo data inspect`: a page of random pairs as the model will see them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mmpo.data.readers import ReadReport
from mmpo.files import write_bytes
from mmpo.records import Group, normalise_text
from pipelines.data_card import Card, card
from pipelines.data_progress import told
from pipelines.data_source import Source
from pipelines.page import page, text

STYLE = Path(__file__).with_name("data_inspect.css")
MANY = 60  # above so many rows the pictures are smaller
KEPT_BYTES = 256_000_000  # so much of the data is held in memory, undrawn
Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Inspection:
    """What a page shows.

    Args:
        source: the data's path.
        cards: by the pair's number in the data, in order.
        prompts: distinct ones.
        resolution: pixels per side that the pairs are shown at.
        notes: what could not be looked up.
        layout: what stands at the data's path.
    """

    source: str
    format: str
    report: ReadReport
    cards: Mapping[int, Card]
    prompts: int
    resolution: int
    notes: tuple[str, ...] = ()
    layout: str = ""

    @property
    def flags(self) -> Counter[str]:
        """How many of the shown pairs have each oddity."""
        return Counter(flag for shown in self.cards.values() for flag in shown.flags)


def inspect_pairs(
    source: Source,
    *,
    rows: int,
    seed: int,
    resolution: int,
    tokenizers: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Inspection:
    """Reads all pairs once and draws `rows` random ones.

    Raises:
        ValueError: no pair can be read.
    """
    report = ReadReport()
    prompts: set[bytes] = set()

    def watched() -> Iterator[Group]:
        for group in source.read(report, lists=True):
            prompts.add(hashlib.blake2b(normalise_text(group.prompt.text).encode(), digest_size=8).digest())
            yield group

    side = 256 if rows <= MANY else 192
    cards = reservoir(watched(), rows, seed, lambda n, group: card(group, n, resolution, tokenizers or {}, side))
    if not cards:
        reasons = f"; {report.bad[0]}" if report.bad else ""
        raise ValueError(
            f"{source.path}: no pair can be read from {report.counts['rows']} rows "
            f"({report.counts['bad']} bad, {report.counts['ties']} ties){reasons}"
        )
    opened = source.open()
    notes += (report.note,) if report.note else ()
    return Inspection(
        source.path, opened.format.name, report, cards, len(prompts), resolution, notes, opened.source.layout
    )


def group_bytes(group: Group) -> int:
    """Bytes of a group's images."""
    return sum(len(candidate.image) for candidate in group.candidates)


def reservoir(
    groups: Iterable[Shown],
    rows: int,
    seed: int,
    draw: Callable[[int, Shown], Card],
    size: Callable[[Shown], int] = group_bytes,  # type: ignore[assignment]
) -> dict[int, Card]:
    """`rows` groups, each set of them as likely as any other, drawn when it is clear which, or memory runs short.

    Args:
        size: bytes that one holds in memory.
    References:
        Vitter, "Random sampling with a reservoir", ACM TOMS 1985, algorithm R.
    """
    rng = random.Random(seed)
    kept: list[tuple[int, Shown | Card]] = []
    held = 0

    def drawn() -> Iterator[tuple[int, Card]]:
        for number, one in told(kept, lambda count: f"{count:,} of {len(kept):,} pairs drawn"):
            yield number, one if isinstance(one, Card) else draw(number, one)

    for number, group in enumerate(groups):
        at = number if number < rows else rng.randrange(number + 1)
        if at >= rows:
            continue
        kept[at : at + 1] = [(number, group)]
        held += size(group)
        if held > KEPT_BYTES:
            kept, held = list(drawn()), 0
    kept.sort(key=lambda pair: pair[0])
    return dict(drawn())


def summary_lines(found: Inspection) -> Iterator[str]:
    """The counts and oddities, for a terminal."""
    counts = found.report.counts
    yield (
        f"{found.source}: {counts['rows']:,} rows, {counts['pairs']:,} pairs of {found.prompts:,} distinct prompts "
        f"(format {found.format}, {found.layout}); {len(found.cards)} shown at {found.resolution}×{found.resolution}"
    )
    for flag, count in found.flags.most_common():
        yield f"of the pairs shown: {count} × {flag}"
    yield from found.notes


def write_page(found: Inspection, output: Path) -> None:
    """The page as one file."""
    write_bytes(output, page_html(found).encode("utf-8", "replace"))


def page_html(found: Inspection) -> str:
    """The page: counts, bad rows, then the cards."""
    counts = found.report.counts
    top = {
        "rows": counts["rows"],
        "pairs": counts["pairs"],
        "ties left out": counts["ties"],
        "bad rows left out": counts["bad"],
        **({"rows without a preference": counts["left out"]} if counts["left out"] else {}),
        "distinct prompts": found.prompts,
    }
    numbers = "".join(f"<li><b>{value:,}</b>{text(name)}</li>" for name, value in top.items())
    words = f"<li><b>{text(found.format)}</b>format</li><li><b>{found.resolution} px</b>resolution</li>"
    body = [
        f"<style>{STYLE.read_text()}</style>",
        f"<h1>Preference pairs</h1><p class='soft'><code>{text(found.source)}</code></p>",
        f'<ul class="counts">{numbers}{words}</ul>',
        *(f'<p class="warn">{text(note)}</p>' for note in found.notes),
        bad_rows(found.report),
        f"<h2>{len(found.cards):,} random pairs, as the model will see them</h2>",
        "<p class='soft'>Decoded, the centre square cut out, resized. In the small drawing the kept part is grey and "
        "what is cut off is red. Numbers are the pairs' places in the data.</p>",
        flag_line(found.flags, len(found.cards)),
        f'<div class="cards">{"".join(shown.html for shown in found.cards.values())}</div>',
    ]
    return page(f"Pairs of {found.source}", "\n".join(body))


def flag_line(flags: Counter[str], shown: int) -> str:
    """What is odd about the rows that are shown."""
    if not flags:
        return "<p>Nothing odd about these.</p>"
    listed = "; ".join(f"{text(flag)}: {count} of {shown}" for flag, count in flags.most_common())
    return f'<p class="warn">{listed}</p>'


def bad_rows(report: ReadReport) -> str:
    """The bad rows' first messages, folded."""
    if not report.bad:
        return ""
    listed = "".join(f"<li>{text(message)}</li>" for message in report.bad)
    more = report.counts["bad"] - len(report.bad)
    rest = f"<li>and {more:,} more</li>" if more > 0 else ""
    return (
        f'<details><summary class="warn">bad rows: {report.counts["bad"]:,}</summary><ul>{listed}{rest}</ul></details>'
    )
