"""What a judge's reply says, or an error: never a number that it did not say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rewards.question import shortened

LOWEST, HIGHEST = 1, 5
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_NUMBER = r"(?P<value>(?>\d+(?:\.\d+)?))(?!\s*(?:%|(?:-|–|to)\s*\d))(?:\s*(?:/|out\s+of)\s*(?P<scale>\d+))?"
_QUOTES = r"[\"'*`_\s]*"
_THING = r"(?:image|answer|response|candidate|option)"
_SIDE = r"(?P<side>[ab12]|first|second|tie|draw|both|equal|neither)"
_SIDES = {"a": 1.0, "1": 1.0, "first": 1.0, "b": 0.0, "2": 0.0, "second": 0.0}
_CHOICE = re.compile(rf"{_QUOTES}(?:the\s+)?(?:{_THING}\s*)?{_SIDE}\b(?:\s*{_THING})?\W*", re.IGNORECASE)
_LETTER = r"(?-i:[AB])(?!\s+(?:tie|draw)\b)|[12]|first|second|tie|draw|both|equal|neither"  # "the winner is a good one"
_VERDICTS = re.compile(
    rf"\b(?:winner|better|choice|verdict){_QUOTES}(?::|=|\bis\b){_QUOTES}(?:{_THING}\s*)?(?P<side>{_LETTER})\b"
    rf"|\b{_THING}\s*(?P<named>[ab12])\s+is\s+(?:(?:clearly|much|slightly|far|a\s+bit|somewhat|the)\s+)?"
    r"(?:better|winner)\b"
    r"|\b(?P<even>equally\s+(?:good|bad)|is\s+a\s+(?:tie|draw))\b",
    re.IGNORECASE,
)


def parse_ratings(reply: str, aspects: Sequence[str]) -> dict[str, float]:
    """A rating in [1, 5] of each aspect.

    Read as JSON; else the last JSON object in the text, bare or fenced, that names every aspect; else the last line
    `aspect: number` of each. Thoughts in <think> are not read.

    Raises:
        ValueError: an aspect without a rating, or one outside of 1 to 5; with the reply, shortened.
    """
    text = _THOUGHT.sub("", reply)
    found = next((named for named in reversed(_named(text)) if all(aspect in named for aspect in aspects)), None)
    if found is None:
        found = {aspect: value for aspect in aspects if (value := _labelled(text, aspect)) is not None}
    missing = [aspect for aspect in aspects if aspect not in found]
    if missing:
        raise ValueError(f"the judge's reply gives no rating of {', '.join(missing)}: {shortened(reply)!r}")
    return {aspect: _rating(aspect, found[aspect], reply) for aspect in aspects}


def parse_winner(reply: str) -> float:
    """1 where A was said to be better, 0 where B was, 0.5 for a tie.

    Read as JSON with `winner`; else the last such object in the text; else what stands in <answer>; else the last
    "winner: A", "Image A is better" or "equally good".

    Raises:
        ValueError: none of these; with the reply, shortened.
    """
    text = _THOUGHT.sub("", reply)
    named = next((named["winner"] for named in reversed(_named(text)) if "winner" in named), None)
    answers = _ANSWER.findall(text)
    for said in [named] if named is not None else [*answers[-1:], text]:
        whole = _CHOICE.fullmatch(str(said).strip())
        matches = list(_VERDICTS.finditer(str(said)))
        word = whole["side"] if whole else None
        if word is None and matches:
            word = matches[-1]["side"] or matches[-1]["named"] or "tie"
        if word is not None:
            return _SIDES.get(word.lower(), 0.5)
    raise ValueError(f"the judge's reply names no winner: {shortened(reply)!r}")


def _named(text: str) -> list[dict[str, Any]]:
    """Every JSON object in a text and inside of those, in order, its keys in lower case with underscores."""
    return [
        {re.sub(r"[^a-z0-9]+", "_", str(key).lower()).strip("_"): value for key, value in found.items()}
        for outer in _objects(text)
        for found in _within(outer)
    ]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield found
        start = text.find("{", end)


def _within(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for value in found.values():
        if isinstance(value, dict):
            yield from _within(value)
    yield found


def _labelled(text: str, aspect: str) -> str | None:
    """The number of the last `aspect: number`, with its scale where it states one."""
    words = r"[\s_-]*".join(map(re.escape, aspect.split("_")))
    scale, rating = r"(?:\([^)\n]*\))?", rf"(?:(?:rating|score){_QUOTES}[:=]{_QUOTES})?"
    pattern = rf"(?<![a-z]){words}{_QUOTES}{scale}{_QUOTES}[:=|]{_QUOTES}{rating}{_NUMBER}"
    matches = list(re.finditer(pattern, text, re.IGNORECASE))
    return f"{matches[-1]['value']}/{matches[-1]['scale'] or HIGHEST}" if matches else None


def _rating(aspect: str, said: Any, reply: str) -> float:
    """A number in [1, 5] from what stands beside an aspect."""
    if isinstance(said, dict):
        said = next((said[key] for key in said if str(key).lower() in ("rating", "score")), None)
    if isinstance(said, str) and (whole := re.fullmatch(_NUMBER, said.strip())):
        said = float(whole["value"]) if int(whole["scale"] or HIGHEST) == HIGHEST else said
    number = isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)
    if not number or not LOWEST <= said <= HIGHEST:
        raise ValueError(
            f"the judge rates {aspect} {shortened(str(said), 40)}, not a number from {LOWEST} to {HIGHEST}: "
            f"{shortened(reply)!r}"
        )
    return float(said)
