"""`mmpo data inspect` of answers: a page of random pairs as the model will see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmpo.answer_pairs import AnswerPair
from mmpo.data.readers import ReadReport
from mmpo.files import write_bytes
from pipelines.data_answer_card import Count, answer_card
from pipelines.data_answers import AnswerSource
from pipelines.data_card import Card
from pipelines.data_inspect import MANY, STYLE, bad_rows, flag_line, reservoir
from pipelines.data_source import none_left
from pipelines.page import page, text

OWN_STYLE = Path(__file__).with_name("data_answers.css")


@dataclass(frozen=True)
class AnswerInspection:
    """What a page shows.

    Args:
        source: the data's path.
        cards: by the pair's number in the data, in order.
        clusters: distinct keys of prompts, which stay on one side of a split.
        layout: what stands at the data's path.
    """

    source: str
    format: str
    layout: str
    report: ReadReport
    cards: Mapping[int, Card]
    clusters: int
    notes: tuple[str, ...] = ()

    @property
    def flags(self) -> Counter[str]:
        """How many of the shown pairs have each oddity."""
        return Counter(flag for shown in self.cards.values() for flag in shown.flags)


def inspect_answers(source: AnswerSource, *, rows: int, seed: int, count: Count | None = None) -> AnswerInspection:
    """Reads all pairs once and draws `rows` random ones.

    Args:
        count: tokens of a pair for a model.
    Raises:
        ValueError: no pair can be read.
    """
    report, clusters = ReadReport(), set()

    def watched() -> Iterator[AnswerPair]:
        for pair in source.read(report):
            clusters.add(pair.prompt.cluster)
            yield pair

    side = 240 if rows <= MANY else 192
    cards = reservoir(watched(), rows, seed, lambda number, pair: answer_card(pair, number, side, count), pair_bytes)
    if not cards:
        raise ValueError(f"{none_left(source.path, report)}{f'; {report.bad[0]}' if report.bad else ''}")
    opened = source.open()
    notes = (report.note,) if report.note else ()
    return AnswerInspection(source.path, opened.format.name, opened.source.layout, report, cards, len(clusters), notes)


def pair_bytes(pair: AnswerPair) -> int:
    """Bytes of a pair's images."""
    return sum(map(len, (*pair.images, *(pair.rejected_images or ()))))


def answer_summary(found: AnswerInspection) -> Iterator[str]:
    """The counts and oddities, for a terminal."""
    counts = found.report.counts
    yield (
        f"{found.source}: {counts['rows']:,} rows, {counts['pairs']:,} pairs of answers about {found.clusters:,} "
        f"distinct images or questions (format {found.format}, {found.layout}); {len(found.cards)} shown"
    )
    for flag, count in found.flags.most_common():
        yield f"of the pairs shown: {count} × {flag}"
    yield from found.notes


def write_answer_page(found: AnswerInspection, output: Path) -> None:
    """The page as one file."""
    write_bytes(output, answer_page(found).encode("utf-8", "replace"))


def answer_page(found: AnswerInspection) -> str:
    """The page: counts, bad rows, then the cards."""
    counts = found.report.counts
    top = {"rows": counts["rows"], "pairs": counts["pairs"], "ties left out": counts["ties"]}
    top |= {"bad rows left out": counts["bad"], "distinct images or questions": found.clusters}
    top |= {"rows without a preference": counts["left out"]} if counts["left out"] else {}
    numbers = "".join(f"<li><b>{value:,}</b>{text(name)}</li>" for name, value in top.items())
    body = [
        f"<style>{STYLE.read_text()}{OWN_STYLE.read_text()}</style>",
        f"<h1>Preferences between answers</h1><p class='soft'><code>{text(found.source)}</code></p>",
        f'<ul class="counts">{numbers}<li><b>{text(found.format)}</b>format</li></ul>',
        *(f'<p class="warn">{text(note)}</p>' for note in found.notes),
        bad_rows(found.report),
        f"<h2>{len(found.cards):,} random pairs</h2>",
        "<p class='soft'>Images upright and in RGB, as training decodes them; the model's own processor resizes them. "
        "Where they stand in the conversation is marked. Words of one answer that are not the other's are marked. "
        "Numbers are the pairs' places in the data.</p>",
        flag_line(found.flags, len(found.cards)),
        f'<div class="cards">{"".join(shown.html for shown in found.cards.values())}</div>',
    ]
    return page(f"Answers of {found.source}", "\n".join(body))
