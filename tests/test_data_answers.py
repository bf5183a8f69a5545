"""The page and the counts of pairs of answers: what a model will see, and nothing in the data can act on it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from answer_files import assistant, pictures, png, user, write_json
from command_line import Main, assert_refused
from PIL import Image

from mmpo.data.images import encode
from mmpo.data.readers import ReadReport
from pipelines.data_answer_card import TokenCount, marked
from pipelines.data_answer_inspect import AnswerInspection, answer_page, inspect_answers
from pipelines.data_answer_stats import answer_figures
from pipelines.data_answers import AnswerSource, answers_in
from pipelines.data_source import Source, locate

main = command_line.main
EVIL = "<script>alert(1)</script> \"quoted\" 'single' & <img src=x onerror=alert(2)>"
PLAIN = {"images": ["0.png"], "prompt": "What is it?", "chosen": "A small cat.", "rejected": "A small dog."}


def inspected(place: Path, *rows: dict[str, Any], **options: Any) -> AnswerInspection:
    """A page's content."""
    return inspect_answers(AnswerSource(write_json(place / "d.json", rows)), rows=12, seed=0, **options)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three pictures."""
    return pictures(tmp_path)


def test_words_that_are_not_the_others_are_marked() -> None:
    assert marked("A small cat.", "A small dog.") == "A small <mark>cat</mark>."
    assert marked("one two", "one") == "one <mark>two</mark>"
    assert marked("one", "one two") == "one"
    assert marked("<b>", "x") == "<mark>&lt;b&gt;</mark>"


def test_the_page_shows_images_conversation_and_both_answers(place: Path) -> None:
    talk = [user("<image>\nWhat is it?"), assistant("A cat."), user("And this <image>?")]
    row = {"messages": [*talk, assistant("A cow.")], "rejected_response": "A hen.", "images": ["0.png", "1.png"]}
    found = inspected(place, {**row, "rejected_images": ["2.png", "0.png"]})
    html = answer_page(found)
    shown = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", html)]
    files = [png(number) for number in (0, 1, 2, 0)]
    assert [np.asarray(Image.open(io.BytesIO(one))).tolist() for one in shown] == [
        np.asarray(Image.open(io.BytesIO(one))).tolist() for one in files
    ]
    text = re.sub(r"<[^>]+>", "|", html)
    assert re.search(r"user\|+image 1\|+What is it\?\|+assistant\|+A cat\.\|+user\|+And this \|+image 2\|+\?", text)
    assert "A <mark>cow</mark>." in html
    assert "rejected images" in html
    assert not found.flags
    assert (found.clusters, found.report.counts["pairs"]) == (1, 1)


def test_oddities_are_flagged(place: Path) -> None:
    (place / "broken.png").write_bytes(png(1, 64, 64)[:200])
    (place / "huge.png").write_bytes(encode(Image.new("RGB", (400, 8))))
    same = encode(Image.open(io.BytesIO(png(0))).convert("RGBA"))  # the same picture in another file
    (place / "same.png").write_bytes(same)
    rows = [
        {**PLAIN, "images": ["broken.png"]},
        {**PLAIN, "images": ["huge.png"]},
        {**PLAIN, "rejected_images": ["same.png"]},
        {**PLAIN, "rejected": "a small  CAT."},
        {**PLAIN, "rejected": "It is a dog that is much larger than usual."},
    ]
    found = inspected(place, *rows)
    assert found.flags == {
        "unreadable image": 2,
        "rejected image is the same picture": 1,
        "answers differ in blanks or case alone": 1,
        "one answer over twice as long": 1,
    }
    assert "400x8 pixels; one side is over 16 times the other" in answer_page(found)


def test_nothing_in_the_data_becomes_markup(place: Path) -> None:
    row = {**PLAIN, "prompt": EVIL, "chosen": EVIL, "rejected": EVIL + " more", "key": EVIL, "split": EVIL}
    html = answer_page(inspected(place, row, {**PLAIN, "chosen": ""}))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    assert "row 1: column &#x27;chosen&#x27; is empty" in html


def test_tokens_are_counted_where_a_model_is_named(place: Path) -> None:
    def count(pair: Any) -> TokenCount:
        if not pair.images:
            raise ValueError("no <image>")
        return TokenCount(12, 30, 4, 20)

    found = inspected(place, PLAIN, {**PLAIN, "images": []}, count=count)
    assert found.flags == {"over the tokenizer's limit": 1}
    html = answer_page(found)
    assert "12 tokens with the chosen answer, 30 with the rejected, 4 of them of images" in html
    assert "tokens: no &lt;image&gt;" in html


def test_figures_of_a_data_set(place: Path) -> None:
    """Words: chosen 3, 3, 1 and 2, of which the last has no rejected answer; rejected 3, 5, 2."""
    rows: list[dict[str, Any]] = [
        PLAIN,
        {**PLAIN, "rejected": "It is a small dog.", "split": "tune"},
        {**PLAIN, "images": [], "chosen": "No", "rejected": "Yes, sir", "prompt": "Is it?"},
        {**PLAIN, "images": ["1.png"], "chosen": "Red, blue", "rejected": None, "rejected_images": ["2.png"]},
        {**PLAIN, "chosen": "A small dog.", "rejected": "A hen"},
        PLAIN,
        {**PLAIN, "images": ["gone.png"]},
    ]
    report = ReadReport()
    found = answer_figures(AnswerSource(write_json(place / "d.json", rows)), report)
    assert (found["rows"], found["pairs"], found["bad"]) == (7, 6, 1)
    assert found["clusters"] == 3
    assert found["images_per_row"] == {"0": 1, "1": 5}
    assert found["words"]["chosen"] == {"min": 1, "mean": (3 + 3 + 1 + 2 + 3 + 3) / 6, "max": 3}
    assert found["chosen_is_longer"] == 1 / 5
    assert found["chosen_is_shorter"] == 2 / 5
    assert (found["pairs_with_rejected_images"], found["pairs_without_a_rejected_answer"]) == (1, 1)
    assert (found["images"]["count"], found["images"]["distinct"]) == (6, 3)
    doubles = found["duplicates"]
    assert doubles == {"rows_that_stand_twice": 1, "answers_chosen_and_rejected_for_one_question": 1}
    assert found["splits"] == {"none": 5, "tune": 1}


def test_both_commands_know_answers_from_images(main: Main, place: Path, tmp_path: Path) -> None:
    rows = write_json(place / "rows.json", [PLAIN, {**PLAIN, "chosen": ""}])
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    result = main("data", "inspect", rows, "--output", page)
    assert result.code == 0
    assert "1 pairs of answers" in result.out
    assert "row 1: column 'chosen' is empty" in result.out
    assert f"next: mmpo data stats {rows}" in result.out
    assert "A small <mark>cat</mark>" in page.read_text()
    result = main("data", "stats", rows, "--json", figures, "--images", place)
    assert result.out.splitlines()[-1] == f"next: mmpo data inspect {rows} --images {place}"
    assert json.loads(figures.read_text())["pairs"] == 1
    assert_refused(
        main("data", "stats", write_json(place / "bad.json", [{**PLAIN, "chosen": ""}])), "no pair can be read"
    )
    assert_refused(main("data", "inspect", rows, "--format", "pairs", "--images", place), "these are pairs of images")


def test_pairs_of_images_stay_what_they_are(tmp_path: Path) -> None:
    pictures(tmp_path)
    rows = write_json(tmp_path / "pairs.json", [{"prompt": "a", "chosen": "0.png", "rejected": "1.png"}])
    assert answers_in(locate(rows)) is None
    assert answers_in(Source("nowhere/at/all")) is None
    with pytest.raises(ValueError, match="found the columns"):
        answers_in(locate(rows), str(tmp_path))
    chats = write_json(tmp_path / "chats.json", [{"image": "0.png", "conversations": [user("a"), assistant("b")]}])
    with pytest.raises(ValueError, match="sharegpt needs conversations, chosen, rejected"):
        answers_in(locate(chats))
