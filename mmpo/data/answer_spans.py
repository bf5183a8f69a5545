"""Which parts of two answers differ, as spans that weigh more: RLHF-V's corrected segments. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from mmpo.answer_pairs import AnswerPair, Span

LEAST_MATCH = 3


class Piece(NamedTuple):
    """A token of a text: what is compared, and its characters [start, stop)."""

    value: Hashable
    start: int
    stop: int


Pieces = Callable[[str], Sequence[Piece]]


def words(text: str) -> list[Piece]:
    """A text's words and its other signs, each a piece; white space is none."""
    return [Piece(found[0], *found.span()) for found in re.finditer(r"\w+|[^\w\s]", text)]


def changed_spans(
    chosen: str, rejected: str, weight: float, *, pieces: Pieces = words, least_match: int = LEAST_MATCH
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The segments of both answers that stand in each other's place.

    Runs of equal pieces shorter than `least_match` count as different. What was only inserted or only left out, with
    nothing in its place on the other side, is no span and weighs 1.

    Args:
        weight: of a span's tokens; the others weigh 1.
        pieces: cuts a text into what is compared; of a tokenizer the token ids with their characters.
        least_match: pieces.
    Returns:
        Spans of the chosen, spans of the rejected: as many, in order.
    References:
        Yu et al., RLHF-V: Towards Trustworthy MLLMs via Behavior Alignment from Fine-grained Correctional Human
        Feedback, arXiv 2312.00849 (the dense DPO), and its released code for the matching. That code's matcher may
        set frequent tokens of long answers aside (difflib's default); this one does not.
    """
    first, second = list(pieces(chosen)), list(pieces(rejected))
    matcher = difflib.SequenceMatcher(None, [p.value for p in first], [p.value for p in second], autojunk=False)
    spans: list[tuple[Span, Span]] = []
    at = other = 0
    for match in matcher.get_matching_blocks():
        if match.size and match.size < least_match:
            continue
        if match.a > at and match.b > other:
            spans.append((_span(first[at : match.a], weight), _span(second[other : match.b], weight)))
        at, other = match.a + match.size, match.b + match.size
    return tuple(one for one, _ in spans), tuple(two for _, two in spans)


def with_changed_spans(pair: AnswerPair, weight: float, *, pieces: Pieces = words) -> AnswerPair:
    """A pair whose answers' different segments weigh so much; one without a rejected answer stays as it is."""
    if pair.rejected is None:
        return pair
    chosen, rejected = changed_spans(pair.chosen, pair.rejected, weight, pieces=pieces)
    return replace(pair, chosen_spans=chosen, rejected_spans=rejected)


def tokens_of(tokenizer: Any) -> Pieces:
    """Cuts a text into a tokenizer's tokens: their ids are what is compared.

    Raises:
        ValueError: a slow tokenizer, which does not say where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("tokenizer: a fast one is needed, which says where each token stands")

    def cut(text: str) -> list[Piece]:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [Piece(one, *at) for one, at in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]

    return cut


def _span(pieces: Sequence[Piece], weight: float) -> Span:
    return Span(pieces[0].start, pieces[-1].stop, weight)
