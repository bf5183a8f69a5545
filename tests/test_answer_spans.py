"""Segments in which two answers differ, against hand-made ones."""

from __future__ import annotations

import pytest
from tiny_vlms import byte_tokenizer

from mmpo.answer_pairs import AnswerPair, Turn
from mmpo.data.answer_spans import changed_spans, tokens_of, with_changed_spans, words
from mmpo.records import Prompt

BOTH = ("A small cat sits on the red mat today.", "A small dog sits on the red mat today.")


def parts(texts: tuple[str, str], least_match: int = 3) -> tuple[list[str], list[str]]:
    """The words of the spans."""
    spans = changed_spans(*texts, 5.0, least_match=least_match)
    return tuple([text[s.start : s.stop] for s in side] for text, side in zip(texts, spans, strict=True))  # type: ignore[return-value]


def test_what_stands_in_each_others_place_is_a_span() -> None:
    assert parts(BOTH, least_match=2) == (["cat"], ["dog"])
    assert {span.weight for span in changed_spans(*BOTH, 5.0)[0]} == {5.0}


def test_short_matches_count_as_different() -> None:
    """ "A small" is a match of two words, below three."""
    assert parts(BOTH) == (["A small cat"], ["A small dog"])


def test_what_is_only_inserted_weighs_one() -> None:
    longer = "one two three four five six seven"
    assert parts((longer, "one two three five six seven")) == ([], [])
    assert parts(("one two three", "one two three four")) == ([], [])
    assert parts(("same words here", "same words here")) == ([], [])


def test_nothing_in_common_is_one_span() -> None:
    assert parts(("a b c", "x y")) == (["a b c"], ["x y"])


def test_frequent_words_of_long_answers_are_matched_too() -> None:
    """difflib's own default would set words aside that make more than a hundredth of 200 and more."""
    long = "the " * 250
    assert parts((f"{long}cat", f"{long}dog")) == (["cat"], ["dog"])


def test_words_know_their_place() -> None:
    assert [(p.value, p.start, p.stop) for p in words("a cat, so")] == [
        ("a", 0, 1),
        ("cat", 2, 5),
        (",", 5, 6),
        ("so", 7, 9),
    ]


def test_tokens_of_a_tokenizer_are_compared_by_id() -> None:
    tokenizer = byte_tokenizer(["<pad>"], pad_token="<pad>")
    spans = changed_spans("my cat is red", "my dog is red", 2.0, pieces=tokens_of(tokenizer))
    assert [(span.start, span.stop) for span in spans[0]] == [(3, 6)]
    with pytest.raises(ValueError, match="a fast one"):
        tokens_of(object())


def test_a_pair_gets_its_spans() -> None:
    pair = AnswerPair("x", Prompt("What?"), (Turn("user", ("What?",)),), (), *BOTH)
    found = with_changed_spans(pair, 3.0)
    assert [(s.start, s.stop, s.weight) for s in found.rejected_spans] == [(0, 11, 3.0)]
