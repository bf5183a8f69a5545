"""Rows, columns and files that cannot be used are named and counted; nothing is lost silently."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pair_files import NAN, PAIR, PICK_A_PIC, RANKED, A, B, C, contents, read, write

from mmpo.data.readers import FORMATS, read_pairs

BAD_ROWS = [
    (PAIR, {"chosen": None}, "chosen"),
    (PAIR, {"rejected": b""}, "rejected"),
    (PAIR, {"prompt": None}, "prompt"),
    (PAIR, {"prompt": "  "}, "prompt"),
    (PICK_A_PIC, {"jpg_1": None}, "jpg_1"),
    (PICK_A_PIC, {"caption": ""}, "caption"),
    (PICK_A_PIC, {"caption": None}, "caption"),
    (PICK_A_PIC, {"label_0": NAN}, "label_0"),
    (PICK_A_PIC, {"label_0": None}, "label_0"),
    (PICK_A_PIC, {"label_0": 0.3}, "label_0"),
    (RANKED, {"images": None}, "images"),
    (RANKED, {"images": [A, None, C]}, "images"),
    (RANKED, {"rank": None}, "rank"),
    (RANKED, {"rank": [1, 2]}, "rank"),
    (RANKED, {"images": [A], "rank": [1]}, "images"),
    (RANKED, {"rank": [1, None, 2]}, "rank"),
    (RANKED, {"rank": [NAN, 1.0, 2.0]}, "rank"),
]


@pytest.mark.parametrize("on_bad_row", ["skip", "error"])
@pytest.mark.parametrize(("row", "changes", "column"), BAD_ROWS, ids=[str(changes)[:30] for _, changes, _ in BAD_ROWS])
def test_a_bad_row_is_named_counted_and_skipped_or_fatal(
    tmp_path: Path, row: dict[str, Any], changes: dict[str, Any], column: str, on_bad_row: str
) -> None:
    folder = write(tmp_path, [row, {**row, **changes}, {**row, "prompt": "more", "caption": "more"}])
    place = rf"a\.parquet, row 1: .*'{column}'"  # the same for a row that is skipped and one that is fatal
    if on_bad_row == "error":
        with pytest.raises(ValueError, match=place):
            read(folder, on_bad_row="error")
        return
    groups, report = read(folder)
    assert len(groups) == 2
    assert report.counts == {"rows": 3, "pairs": 2, "bad": 1}
    assert len(report.bad) == 1
    assert re.search(place, report.bad[0])


FOREIGN = [
    ({"scores": [0.9, 0.1]}, "scores"),
    ({"scores": 0.9}, "scores"),
    ({"scores": {"clip": 0.9}}, "clip"),
    ({"scores": {"clip": [0.9, 0.1, 0.3]}}, "clip"),
    ({"rank": 1}, "rank"),
    ({"provenance": "midjourney"}, "provenance"),
    ({"provenance": {"model": "midjourney"}}, "provenance"),
    ({"provenance": '{"model": "midjourney"}'}, "provenance"),
]


@pytest.mark.parametrize(("extra", "column"), FOREIGN, ids=[str(extra)[:40] for extra, _ in FOREIGN])
def test_a_foreign_column_of_one_of_our_names_is_ignored_or_named(
    tmp_path: Path, extra: dict[str, Any], column: str
) -> None:
    """Pairs of other tools may have a column `scores` or `rank` of their own kind; that must not end in a traceback."""
    groups, report = read(write(tmp_path, [{**PAIR, **extra}]))
    if groups:
        assert contents(groups) == [[A, B]]
    else:
        assert report.counts["bad"] == 1
        assert column in report.bad[0]


def test_a_later_file_without_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, [PAIR])
    write(tmp_path, [{"prompt": "a dog", "chosen": A}], name="b")
    groups, report = read(tmp_path)
    assert len(groups) == 1
    assert report.counts["bad"] == 1
    assert "b.parquet, row 0" in report.bad[0]
    assert "rejected" in report.bad[0]


def test_only_the_first_messages_are_kept_but_all_rows_are_counted(tmp_path: Path) -> None:
    _, report = read(write(tmp_path, [{**PAIR, "chosen": None}] * 30 + [PAIR]))
    assert report.counts == {"rows": 31, "bad": 30, "pairs": 1}
    assert len(report.bad) == 20


def test_unknown_columns_list_what_was_found_and_what_each_format_needs(tmp_path: Path) -> None:
    folder = write(tmp_path, [{"text": "a cat", "picture": A}])
    with pytest.raises(ValueError, match=r"found the columns text, picture") as caught:
        read(folder)
    message = str(caught.value)
    assert str(folder) in message
    for fmt in FORMATS.values():
        assert fmt.needs in message


def test_a_named_format_says_which_columns_are_missing(tmp_path: Path) -> None:
    folder = write(tmp_path, [{"prompt": "a cat", "chosen": A}])
    with pytest.raises(ValueError, match=r"missing: rejected; found the columns prompt, chosen; pairs needs prompt"):
        read(folder, format="pairs")


def test_nothing_to_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path .*nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(ValueError, match=r"no preference data in it; found: notes\.md\..*\.parquet.*w/ and l/"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"notes\.md: not a readable parquet file.*tables are files named \.parquet"):
        read(tmp_path / "notes.md")
    (tmp_path / "a.parquet").write_text("PAR1, it says, but it is not")
    with pytest.raises(ValueError, match=r"a\.parquet: not a readable parquet file"):
        read(tmp_path)


def test_a_name_that_is_neither_here_nor_on_the_hub_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.path no-such/pairs: no such file or folder, and the hub"):
        list(read_pairs("no-such/pairs"))


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, cut: bool) -> None:
    """A copy that broke off loses the footer; a bad disk damages a page, which shows only while reading rows."""
    file = write(tmp_path, [{**PAIR, "prompt": f"cat {i}"} for i in range(200)]) / "a.parquet"
    data = bytearray(file.read_bytes())
    file.write_bytes(data[: len(data) // 2] if cut else data[:10] + b"\xff" * 40 + data[50:])
    with pytest.raises(ValueError, match=r"a\.parquet"):
        read(tmp_path)
