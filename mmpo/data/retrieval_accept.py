"""From a masked answer to a rejected one: images in order, a completion under each, the first that says something else.

Pure: completing and comparing are callables of the caller's, each of many at once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mmpo.data.retrieval import Neighbour
from mmpo.data.retrieval_masks import MASK

Why = Literal["alike", "empty", "masked"]


@dataclass(frozen=True)
class Asked:
    """A masked answer that looks for its rejected one.

    Args:
        row: its place among the caller's rows.
        answer: the chosen answer.
        masked: the same with masks.
        neighbours: images to try, the nearest first.
    """

    row: int
    answer: str
    masked: str
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class Accepted:
    """The rejected side that was found.

    Args:
        text: the completion.
        neighbour: the image under which it was written.
        cosine: of the completion and the chosen answer, as texts.
        tries: images that were tried, this one among them.
        left_out: why the others were not taken.
    """

    text: str
    neighbour: Neighbour
    cosine: float
    tries: int
    left_out: tuple[Why, ...] = ()


Complete = Callable[[Sequence[Asked], Sequence[Neighbour]], Sequence[str]]
"""(masked answers, the image to complete each with) -> completions."""
Similarity = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(texts, texts) -> their cosines, pair by pair."""


def find_rejected(
    asked: Sequence[Asked], complete: Complete, similarity: Similarity, *, tau: float
) -> list[Accepted | tuple[Why, ...]]:
    """The first completion of each that is less similar to its answer than tau, image by image.

    All that are still open are completed with their next image at once. A completion that is empty or still holds a
    mask is not taken.

    Args:
        tau: a completion is taken where its cosine with the answer is below.
    Returns:
        Per masked answer what was taken, or why none of its images was.
    References:
        Xing et al., arXiv 2502.13146: tau 0.95, ten images, a row without an acceptable one is skipped.
    """
    found: list[Accepted | tuple[Why, ...]] = [() for _ in asked]
    refused: list[list[Why]] = [[] for _ in asked]
    for turn in range(max((len(one.neighbours) for one in asked), default=0)):
        still = [
            number
            for number, one in enumerate(asked)
            if not isinstance(found[number], Accepted) and turn < len(one.neighbours)
        ]
        if not still:
            break
        texts = complete([asked[n] for n in still], [asked[n].neighbours[turn] for n in still])
        faults = [_fault(text) for text in texts]
        good = [place for place, fault in enumerate(faults) if fault is None]
        cosines = iter(similarity([asked[still[g]].answer for g in good], [texts[g] for g in good]) if good else ())
        for number, text, fault in zip(still, texts, faults, strict=True):
            cosine = next(cosines) if fault is None else math.nan
            if cosine < tau:
                near = asked[number].neighbours[turn]
                found[number] = Accepted(text, near, float(cosine), turn + 1, tuple(refused[number]))
            else:
                refused[number].append(fault or "alike")
                found[number] = tuple(refused[number])
    return found


def _fault(text: str) -> Why | None:
    if not text.strip():
        return "empty"
    return "masked" if MASK in text else None


def words_cosine(ones: Sequence[str], others: Sequence[str]) -> list[float]:
    """Cosine of how often each word stands in two texts: needs nothing, and knows nothing of meaning.

    Texts of other words for the same thing look different to it, so a tau that was chosen for sentence embeddings is
    not one for it. Two texts without a word have 1, one alone 0.
    """
    return [_cosine(_words(one), _words(other)) for one, other in zip(ones, others, strict=True)]


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    if not one or not other:
        return float(one == other)
    dot = sum(count * other[word] for word, count in one.items())
    squares = sum(n * n for n in one.values()) * sum(n * n for n in other.values())
    return dot / math.sqrt(squares)
