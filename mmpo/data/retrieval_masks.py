"""Masking what an answer says of an image: its objects, their attributes and relations, each stretch as [MASK].

A way to find them is any callable `text -> spans`. `content_spans` is the built-in one: English, by a list of words
that are no content; `spans_of_masked` reads what a model or an API masked. No model is used here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

MASK = "[MASK]"
Spans = Sequence[tuple[int, int]]
"""Characters [start, stop)."""
FindSpans = Callable[[str], Spans]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]*")
_KEPT = """
a an the this that these those it its it's he him his she her hers they them their theirs we us our you your i me my
mine one's itself himself herself themselves who whom whose which what where when why how there here
is are was were be been being am isn't aren't wasn't weren't do does did doesn't don't didn't has have had having
hasn't haven't can could may might will would shall should must cannot can't seem seems seemed appear appears appeared
and or but nor so yet if then than as because while whereas although though since until unless whether either neither
both of to for from by with without about into onto in on at also too very quite rather just only even still again
perhaps maybe likely possibly probably overall additionally moreover furthermore however therefore thus
image images picture pictures photo photos photograph photographs scene show shows showing shown depict depicts depicted
depicting feature features featuring contain contains containing see seen visible describe describes look looks
yes no not answer some any other another each every such more most much many few several all
"""
KEPT_WORDS = frozenset(_KEPT.split())
"""What `content_spans` leaves: articles, pronouns, auxiliaries, conjunctions, words of describing. Words of place such
as `above`, `behind` and `left` are not in it, for they are relations."""


def content_spans(text: str) -> list[tuple[int, int]]:
    """Every word that is not in `KEPT_WORDS`: nouns, adjectives, verbs, numbers, and words of place.

    It knows no parts of speech and no language but English; a word that it does not know is masked.
    """
    return [found.span() for found in _WORD.finditer(text) if found[0].casefold().replace("’", "'") not in KEPT_WORDS]


def joined_spans(text: str, spans: Spans) -> list[tuple[int, int]]:
    """In order, those that overlap or have nothing but spaces between them as one.

    Raises:
        ValueError: one is empty or outside of the text.
    """
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if not 0 <= start < stop <= len(text):
            raise ValueError(f"spans: [{start}, {stop}) does not lie in an answer of {len(text)} characters")
        if joined and (start <= joined[-1][1] or not text[joined[-1][1] : start].strip()):
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def sentence_spans(text: str, spans: Spans) -> list[tuple[int, int]]:
    """The whole sentences that hold one of the spans, without the spaces around them."""
    found = []
    for sentence in _SENTENCE.finditer(text):
        start, stop = sentence.span()
        if any(start < end and begin < stop for begin, end in spans):
            found.append((start + len(sentence[0]) - len(sentence[0].lstrip()), start + len(sentence[0].rstrip())))
    return found


def mask_response(text: str, spans: Spans | FindSpans, *, mask: str = MASK) -> str:
    """The text with each span replaced by the mask; spans with only spaces between them become one mask.

    Args:
        spans: characters [start, stop), or what finds them.
    Raises:
        ValueError: a span lies outside of the text.
    References:
        Xing et al., Re-Align: Aligning Vision Language Models via Retrieval-Augmented Direct Preference Optimization,
        arXiv 2502.13146.
    """
    parts, at = [], 0
    for start, stop in joined_spans(text, spans(text) if callable(spans) else spans):
        parts += [text[at:start], mask]
        at = stop
    return "".join([*parts, text[at:]])


def spans_of_masked(text: str, masked: str, *, mask: str = MASK) -> list[tuple[int, int]]:
    """Which spans somebody masked: the inverse of `mask_response`, and a check that nothing else was changed.

    Args:
        masked: the text with stretches of it replaced by the mask; spaces around the whole do not matter.
    Raises:
        ValueError: no mask in it, or the rest is not the text's own, word by word.
    """
    offset = len(text) - len(text.lstrip())
    body, parts = text.strip(), masked.strip().split(mask)
    if len(parts) < 2:
        raise ValueError(f"masked answer: no {mask} in it")
    end = len(body) - len(parts[-1])
    spans, at = [], len(parts[0])
    fits = body.startswith(parts[0]) and body.endswith(parts[-1])
    for part in parts[1:-1]:
        start = body.find(part, at + 1, end) if fits else -1
        if start < 0:
            fits = False
            break
        spans.append((at, start))
        at = start + len(part)
    if not fits or at >= end:
        raise ValueError("masked answer: without its masks it is not the answer's own text; nothing else may change")
    return [(start + offset, stop + offset) for start, stop in [*spans, (at, end)]]
