"""`mmpo data stats` of answers: counts in one pass, from hashes, words and image headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmpo.answer_pairs import AnswerPair
from mmpo.data.headers import read_header
from mmpo.data.readers import ReadReport
from mmpo.records import bytes_hash, content_id
from pipelines.data_answers import AnswerSource

COMMON = 8  # so many rows of a table


@dataclass
class AnswerTally:
    """What is kept while reading: numbers and hashes, no image and no text.

    Args:
        images: uses by the image's hash.
        sides: (conversation with its images, answer) -> bit 1: was chosen, bit 2: was rejected.
        clusters, ids, sizes, kinds, splits, turns, shown: pairs or images by what the name says.
        chosen, rejected: answers by their number of words.
        longer: pairs whose chosen answer has more words; shorter: fewer.
        visual: pairs with rejected images; alone: those without a rejected answer.
    """

    images: Counter[str] = field(default_factory=Counter)
    sides: dict[str, int] = field(default_factory=dict)
    clusters: Counter[str] = field(default_factory=Counter)
    ids: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    shown: Counter[int] = field(default_factory=Counter)
    chosen: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    longer: int = 0
    shorter: int = 0
    visual: int = 0
    alone: int = 0
    bytes: int = 0


def tally_answers(pairs: Iterable[AnswerPair], report: ReadReport) -> AnswerTally:
    """One pass over the pairs; an image whose header says that it cannot be trained on makes its pair a bad row."""
    tally = AnswerTally()
    for pair in pairs:
        every = (*pair.images, *(pair.rejected_images or ()))
        try:
            headers = [read_header(data) for data in every]
        except ValueError as error:
            report.drop(f"{pair.source}: {error}")
            continue
        for data, header in zip(every, headers, strict=True):
            tally.images[bytes_hash(data)] += 1
            tally.sizes[header.width, header.height] += 1
            tally.kinds[header.kind] += 1
            tally.bytes += len(data)
        _count(tally, pair)
    return tally


def _count(tally: AnswerTally, pair: AnswerPair) -> None:
    tally.clusters[pair.prompt.cluster] += 1
    tally.ids[pair.id] += 1
    tally.splits[pair.prompt.split or "none"] += 1
    tally.turns[len(pair.turns)] += 1
    tally.shown[len(pair.images)] += 1
    tally.visual += pair.rejected_images is not None
    chosen = len(pair.chosen.split())
    tally.chosen[chosen] += 1
    if pair.rejected is None:
        tally.alone += 1
        return
    rejected = len(pair.rejected.split())
    tally.rejected[rejected] += 1
    tally.longer += chosen > rejected
    tally.shorter += chosen < rejected
    asked = [[turn.role, list(turn.parts)] for turn in pair.turns], [bytes_hash(image) for image in pair.images]
    for answer, bit in ((pair.chosen, 1), (pair.rejected, 2)):
        key = content_id(asked, answer)[:16]
        tally.sides[key] = tally.sides.get(key, 0) | bit


def answer_figures(source: AnswerSource, report: ReadReport) -> dict[str, Any]:
    """Reads all pairs, and what a report or a JSON file shows of them."""
    tally = tally_answers(source.read(report), report)
    opened = source.open()
    compared = sum(tally.rejected.values())
    return {
        "path": source.path,
        "format": opened.format.name,
        "layout": opened.source.layout,
        "rows": report.counts["rows"],
        "pairs": report.counts["pairs"],
        "ties": report.counts["ties"],
        "bad": report.counts["bad"],
        "left_out": dict(report.reasons),
        "clusters": len(tally.clusters),
        "pairs_with_rejected_images": tally.visual,
        "pairs_without_a_rejected_answer": tally.alone,
        "images_per_row": _counts(tally.shown),
        "turns_per_row": _counts(tally.turns),
        "words": {"chosen": _range(tally.chosen), "rejected": _range(tally.rejected)},
        "chosen_is_longer": tally.longer / compared if compared else None,
        "chosen_is_shorter": tally.shorter / compared if compared else None,
        "images": {
            "count": sum(tally.images.values()),
            "distinct": len(tally.images),
            "bytes": tally.bytes,
            "kinds": dict(tally.kinds.most_common()),
            "sizes": {f"{width}x{height}": n for (width, height), n in tally.sizes.most_common(COMMON)},
            "distinct_sizes": len(tally.sizes),
        },
        "duplicates": {
            "rows_that_stand_twice": sum(n - 1 for n in tally.ids.values()),
            "answers_chosen_and_rejected_for_one_question": sum(bits == 3 for bits in tally.sides.values()),
        },
        "splits": dict(tally.splits.most_common()),
    }


def _counts(counter: Counter[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(counter.items())}


def _range(counter: Counter[int]) -> dict[str, float] | None:
    """Smallest, mean and largest."""
    if not counter:
        return None
    mean = sum(number * count for number, count in counter.items()) / sum(counter.values())
    return {"min": min(counter), "mean": mean, "max": max(counter)}


def answer_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The figures for a terminal."""
    images, doubles = found["images"], found["duplicates"]
    yield f"{found['path']} (format {found['format']}, {found['layout']})"
    without = sum(found["left_out"].values())
    none = f", {without:,} without a preference" if without else ""
    yield _line(
        "rows", f"{found['rows']:,}: {found['pairs']:,} pairs, {found['ties']:,} ties, {found['bad']:,} bad{none}"
    )
    if not found["pairs"]:
        return
    yield _line("keys", f"{found['clusters']:,} distinct images or questions")
    yield _line(
        "rejected",
        f"{found['pairs_with_rejected_images']:,} pairs with rejected images, "
        f"{found['pairs_without_a_rejected_answer']:,} without a rejected answer",
    )
    yield _line("rows have", f"images {_listed(found['images_per_row'])}; turns {_listed(found['turns_per_row'])}")
    for name, span in found["words"].items():
        if span is not None:
            yield _line(name, f"{span['min']} to {span['max']} words, mean {span['mean']:.1f}")
    if found["chosen_is_longer"] is not None:
        yield _line(
            "length",
            f"the chosen answer is longer in {found['chosen_is_longer']:.1%} of the pairs, "
            f"shorter in {found['chosen_is_shorter']:.1%}",
        )
    yield _line("images", f"{images['count']:,}, {images['distinct']:,} distinct, {images['bytes'] / 1e6:,.1f} MB")
    if images["count"]:
        yield _line("", ", ".join(f"{kind} {n:,}" for kind, n in images["kinds"].items()))
        more = images["distinct_sizes"] - len(images["sizes"])
        sizes = ", ".join(f"{size} {n:,}" for size, n in images["sizes"].items())
        yield _line("sizes", sizes + (f", and {more:,} more" if more else ""))
    yield _line("duplicates", f"{doubles['rows_that_stand_twice']:,} rows that stand twice")
    both = doubles["answers_chosen_and_rejected_for_one_question"]
    yield _line("", f"{both:,} answers chosen in one and rejected in another row of one question")
    yield _line("splits", ", ".join(f"{name} {n:,}" for name, n in found["splits"].items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} ({count:,})" for number, count in counts.items())


def _line(name: str, value: str) -> str:
    return f"{name:<11} {value}"
