"""One pair of answers as HTML: images, conversation, both answers with their differing words, rejected images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from mmpo.answer_pairs import AnswerPair, Span, Turn
from mmpo.data.answer_spans import words
from mmpo.data.headers import read_header
from mmpo.data.images import decode
from mmpo.records import normalise_text
from pipelines.data_card import Card
from pipelines.page import picture, table, text

UNREADABLE, SAME_PICTURE = "unreadable image", "rejected image is the same picture"
ALIKE, LONGER = "answers differ in blanks or case alone", "one answer over twice as long"


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a pair in a model's own chat template.

    Args:
        chosen, rejected: of the whole row with that answer; None where there is no such answer.
        image_tokens: of them, places of image features.
        limit: so many the tokenizer says it takes, or None.
    """

    chosen: int
    rejected: int | None
    image_tokens: int
    limit: int | None = None

    @property
    def over(self) -> bool:
        """Whether the longer row is over the limit."""
        return self.limit is not None and max(self.chosen, self.rejected or 0) > self.limit


Count = Callable[[AnswerPair], TokenCount]


class _Picture(NamedTuple):
    html: str
    pixels: bytes | None


def answer_card(pair: AnswerPair, number: int, side: int, count: Count | None = None) -> Card:
    """The pair `number` of the data.

    Args:
        side: pixels of the pictures on the page.
        count: tokens of the row for a model.
    """
    shown = [_picture(data, f"image {n}", side) for n, data in enumerate(pair.images, 1)]
    others = [_picture(data, f"rejected image {n}", side) for n, data in enumerate(pair.rejected_images or (), 1)]
    flags = [UNREADABLE] if any(one.pixels is None for one in (*shown, *others)) else []
    same = bool(others) and all(
        a.pixels is not None and a.pixels == b.pixels for a, b in zip(shown, others, strict=True)
    )
    flags += [SAME_PICTURE] if same else []
    flags += _answer_flags(pair)
    tokens, over = _tokens(pair, count) if count is not None and UNREADABLE not in flags else ("", False)
    flags += ["over the tokenizer's limit"] if over else []
    badges = "".join(f'<span class="flag">{text(flag)}</span>' for flag in flags)
    rejected = "".join(one.html for one in others)
    images = f'<h3>rejected image{"s" * (len(others) > 1)}</h3><div class="pictures">{rejected}</div>' if others else ""
    html = (
        f'<article><header><b>{number}</b><span class="soft">{text(pair.source)}</span>{badges}</header>'
        f'<div class="pictures">{"".join(one.html for one in shown)}</div>{"".join(_turns(pair.turns))}'
        f"{_answers(pair)}{images}{tokens}{_scores(pair)}{_details(pair)}</article>"
    )
    return Card(html, tuple(flags))


def marked(said: str, other: str) -> str:
    """A text as HTML with the words marked that are not the other's."""
    mine, theirs = words(said), words(other)
    matcher = difflib.SequenceMatcher(None, [p.value for p in mine], [p.value for p in theirs], autojunk=False)
    found, at = [], 0
    for kind, first, last, _, _ in matcher.get_opcodes():
        if kind == "equal" or first == last:
            continue
        start, stop = mine[first].start, mine[last - 1].stop
        found.append(f"{text(said[at:start])}<mark>{text(said[start:stop])}</mark>")
        at = stop
    return "".join(found) + text(said[at:])


def _answer_flags(pair: AnswerPair) -> list[str]:
    if pair.rejected is None:
        return []
    alike = normalise_text(pair.chosen) == normalise_text(pair.rejected)
    short, long = sorted((len(pair.chosen.split()), len(pair.rejected.split())))
    return [ALIKE] * alike + [LONGER] * (long > 2 * short)


def _picture(data: bytes, name: str, side: int) -> _Picture:
    try:
        image = decode(data)
        note = f"{read_header(data).kind} {image.width}×{image.height}"
    except ValueError as error:
        return _Picture(f'<figure><p class="bad">{text(name)} cannot be read: {text(error)}</p></figure>', None)
    shown = (
        f'<figure>{picture(image, name, side=side)}<figcaption class="soft">{text(name)}: {note}</figcaption></figure>'
    )
    return _Picture(shown, _pixels(image))


def _pixels(image: Image.Image) -> bytes:
    return f"{image.size}".encode() + image.tobytes()


def _turns(turns: Sequence[Turn]) -> list[str]:
    """The conversation; where an image stands, its number."""
    html, image = [], 0
    for turn in turns:
        parts = []
        for part in turn.parts:
            image += part is None
            parts.append(f'<span class="place">image {image}</span>' if part is None else text(part))
        html.append(f'<p class="turn"><b>{turn.role}</b>{"".join(parts)}</p>')
    return html


def _answers(pair: AnswerPair) -> str:
    sides = [("chosen", pair.chosen, pair.rejected, pair.chosen_spans)]
    if pair.rejected is not None:
        sides.append(("rejected", pair.rejected, pair.chosen, pair.rejected_spans))
    figures = []
    for name, said, other, spans in sides:
        body = marked(said, other) if other is not None else text(said)
        weights = f'<p class="soft note">{text(_spans(said, spans))}</p>' if spans else ""
        count = len(said.split())
        head = f"<figcaption>{name}, {count} words</figcaption>"
        figures.append(f'<figure class="{name}">{head}<p class="answer">{body}</p>{weights}</figure>')
    return f'<div class="sides">{"".join(figures)}</div>'


def _spans(said: str, spans: Sequence[Span]) -> str:
    return "; ".join(f"{said[span.start : span.stop]!r} weighs {span.weight:g}" for span in spans)


def _tokens(pair: AnswerPair, count: Count | None) -> tuple[str, bool]:
    """What a model reads, and whether that is too much."""
    assert count is not None
    try:
        found = count(pair)
    except ValueError as error:
        return f'<p class="tokens bad">tokens: {text(error)}</p>', False
    rejected = "" if found.rejected is None else f", {found.rejected} with the rejected"
    limit = f"; the tokenizer's limit is {found.limit}" if found.over else ""
    line = f"{found.chosen} tokens with the chosen answer{rejected}, {found.image_tokens} of them of images{limit}"
    return f'<p class="tokens {"warn" if found.over else "soft"}">{line}</p>', found.over


def _scores(pair: AnswerPair) -> str:
    rows = [[name, *("–" if value is None else f"{value:.4g}" for value in both)] for name, both in pair.scores.items()]
    return table(["score", "chosen", "rejected"], rows) if rows else ""


def _details(pair: AnswerPair) -> str:
    rows: list[tuple[str, object]] = [("id", pair.id)]
    rows += [(name, value) for name, value in (("key", pair.prompt.key), ("split", pair.prompt.split)) if value]
    rows += [(name, value) for name, value in pair.extra.items()]
    return f"<details><summary>where it is from</summary>{table(['', ''], rows)}</details>"
