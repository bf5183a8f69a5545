"""Captions and numbers: what is mended, and what makes a bad row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair_files import A, B, read, write_images, write_lines

from mmpo.data.format_values import LONGEST_PROMPT, caption, finite, label
from mmpo.records import content_id


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a red cat\n", "a red cat"),
        ("a red cat\r\n", "a red cat"),
        ("\ufeffa red cat", "a red cat"),
        (" a  red cat ", " a  red cat "),
        ("a red cat\non a mat", "a red cat\non a mat"),
        ("кот 猫 🐈", "кот 猫 🐈"),
        ("x" * LONGEST_PROMPT, "x" * LONGEST_PROMPT),
        (b"a cat", "a cat"),
    ],
)
def test_a_caption_keeps_its_text_without_marks_at_its_ends(text: Any, kept: str) -> None:
    assert caption({"prompt": text}, "prompt") == kept


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is empty"),
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("\ufeff", "is empty"),
        ("x" * (LONGEST_PROMPT + 1), r"10,001 characters, the limit is 10,000"),
        ("a\0 cat", "NUL.*UTF-8"),
        ("a \ud83d cat", r"half a character \(U\+D83D\)"),
        (b"caf\xe9", "not UTF-8"),
        (7, "holds int; expected text"),
        (["a cat"], "holds list; expected text"),
    ],
)
def test_a_caption_that_is_no_text_says_why(text: Any, says: str) -> None:
    with pytest.raises(ValueError, match=rf"column 'prompt'.*{says}"):
        caption({"prompt": text}, "prompt")


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_a_caption_or_a_value_error_and_a_caption_can_be_written(text: str) -> None:
    try:
        kept = caption({"prompt": text}, "prompt")
    except ValueError:
        return
    assert kept in text
    assert kept.encode()


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.5, 0.5), ("0.5", 0.5), ("1", 1.0), (-3, -3.0)])
def test_numbers_may_be_written_as_text(value: Any, number: float) -> None:
    assert finite(value, "rank") == number


@pytest.mark.parametrize("value", [None, True, "", "one", float("nan"), float("inf"), "nan", [1], 10**400])
def test_what_is_no_finite_number_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"column 'rank' is .*; expected a finite number"):
        finite(value, "rank")


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (7, "7"), (None, ""), (True, ""), ({"a": 1}, ""), (0.5, "")])
def test_a_foreign_key_or_split_is_text_or_nothing(value: Any, text: str) -> None:
    assert label(value) == text


def test_damaged_captions_in_a_file_are_counted_and_the_others_read(tmp_path: Path) -> None:
    write_images(tmp_path)
    row = {"prompt": "a red cat\n", "chosen": "images/a.png", "rejected": "images/b.png", "key": 3, "split": None}
    file = write_lines(
        tmp_path, [row, {**row, "prompt": "a\0"}, {**row, "prompt": "\ud83d"}, {**row, "prompt": "x" * 10**5}]
    )
    groups, report = read(file)
    assert [(group.prompt.text, group.prompt.key, group.prompt.split) for group in groups] == [("a red cat", "3", "")]
    assert report.counts == {"rows": 4, "pairs": 1, "bad": 3}
    hashes = [candidate.image_hash for candidate in groups[0].candidates]
    assert groups[0].id == content_id("pair", "a red cat", *hashes)
    assert [candidate.image for candidate in groups[0].candidates] == [A, B]
