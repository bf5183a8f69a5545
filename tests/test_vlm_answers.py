"""Answers matched with questions, and `mmpo eval --benchmark` from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import command_line
import pytest
import vlm_files
from answer_files import pictures, png
from command_line import Main, assert_refused
from judge_server import Say, judge_server, text_of
from vlm_files import POPE_ANSWERS, lines

from mmpo.data.questions import open_questions
from pipelines.vlm_answers import GivenAnswer, match, read_given
from pipelines.vlm_evaluate import write_questions
from pipelines.vlm_items import Item
from pipelines.vlm_judge import judge_of, replies_of

main = command_line.main
ITEMS = [Item(f"q/{n}", f"Is it {n}?", f"{n % 2}.png", {}, (str(n),), "q") for n in range(4)]


def given(tmp_path: Path, *rows: dict[str, Any]) -> list[GivenAnswer]:
    """Answers of rows."""
    return read_given(lines(tmp_path / "answers.jsonl", rows))


@pytest.mark.parametrize(
    "row",
    [
        lambda n: {"key": f"q/{n}", "responses": [f"a{n}", "other"], "image": {"bytes": None, "path": "x"}},
        lambda n: {"question_id": n, "text": f"a{n}", "prompt": "not looked at"},
        lambda n: {"id": str(n), "response": f"a{n}"},
        lambda n: {"image": f"photos/{n % 2}.png", "question": f"Is  it {n}?", "answer": f"a{n}"},
        lambda n: {"question": f"Is it {n}?", "answer": f"a{n}"},
    ],
    ids=["respond", "llava", "amber", "by image and question", "in order"],
)
def test_answers_are_found_under_any_of_their_names(tmp_path: Path, row: Any) -> None:
    rows = [row(n) for n in range(4)]
    ordered = "question" in rows[0] and "image" not in rows[0]
    found = match(ITEMS, given(tmp_path, *(rows if ordered else rows[::-1])))
    assert found.texts == {f"q/{n}": f"a{n}" for n in range(4)}
    assert bool(found.notes) == ordered


def test_missing_and_contradicting_answers_are_refused(tmp_path: Path) -> None:
    rows = [{"id": n, "response": "a"} for n in range(3)]
    with pytest.raises(ValueError, match=r"1 of 4 questions have no answer \(q/3"):
        match(ITEMS, given(tmp_path, *rows))
    assert match(ITEMS, given(tmp_path, *rows), partial=True).missing == ("q/3",)
    with pytest.raises(ValueError, match=r"line 4: answers '0' otherwise than .*line 1"):
        match(ITEMS, given(tmp_path, *rows, {"id": 0, "response": "b"}))
    assert len(match(ITEMS, given(tmp_path, *rows, *rows), partial=True).texts) == 3
    with pytest.raises(ValueError, match="no answer belongs to a question"):
        match(ITEMS, given(tmp_path, {"id": "z", "response": "a"}))
    with pytest.raises(ValueError, match="and in its place stands 'Is it 3\\?'"):
        match(ITEMS, given(tmp_path, *({"question": f"Is it {n}?", "answer": "a"} for n in (0, 1, 2, 2))))
    with pytest.raises(ValueError, match="holds no answer"):
        given(tmp_path, {"id": 1})


def test_a_number_that_is_another_images_id_is_no_name_of_this_one(tmp_path: Path) -> None:
    """CHAIR's images are named by COCO's numbers, and answers are often numbered from 0."""
    items = [Item(str(n), "What?", f"COCO_{n}.jpg", {}, (f"COCO_{n}.jpg",)) for n in (1, 2, 3)]
    rows = [{"question_id": n % 3 + 1, "image": f"val/COCO_{n}.jpg", "text": f"a{n}"} for n in (1, 2, 3)]
    assert match(items, given(tmp_path, *rows)).texts == {str(n): f"a{n}" for n in (1, 2, 3)}
    other = [{"image_id": n, "image": f"{n}.jpg", "text": f"a{n}"} for n in (1, 2, 3)]
    assert match(items, given(tmp_path, *other)).texts == {str(n): f"a{n}" for n in (1, 2, 3)}


def test_answers_to_nothing_are_counted(tmp_path: Path) -> None:
    rows = [{"id": n, "response": "a"} for n in range(6)]
    assert match(ITEMS, given(tmp_path, *rows)).notes == ("2 of 6 answers belong to no question",)


def test_a_part_is_not_half_answered_by_what_another_part_shares_with_it(tmp_path: Path) -> None:
    """POPE's questions with the answer yes stand in all three files; scored alone they would be half of a part."""
    asked = [("a", "Dog?", "random"), ("b", "Cat?", "random"), ("a", "Dog?", "popular"), ("b", "Cup?", "popular")]
    items = [Item(f"{part}/{n}", text, f"{image}.png", {}, (), part) for n, (image, text, part) in enumerate(asked)]
    rows = [{"key": f"random/{n}", "response": "yes"} for n in (0, 1)]
    for partial in (False, True):
        found = match(items, given(tmp_path, *rows), partial=partial)
        assert list(found.texts) == ["random/0", "random/1"]
        assert found.left_out == ("popular",)
    found = match(items, given(tmp_path, *rows, {"key": "popular/3", "response": "no"}))
    assert len(found.texts) == 4


def test_a_part_that_nobody_answered_is_left_out(tmp_path: Path) -> None:
    items = [*ITEMS, Item("other/0", "What?", "9.png", group="other")]
    found = match(items, given(tmp_path, *({"id": n, "response": "a"} for n in range(4))))
    assert found.left_out == ("other",)
    twin = [*ITEMS, Item("twin/0", "Is it 0?", "0.png", group="twin")]
    assert match(twin, given(tmp_path, *({"id": n, "response": f"a{n}"} for n in range(4)))).texts["twin/0"] == "a0"


def test_written_questions_are_asked_by_respond_under_their_ids(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 2)
    output = tmp_path / "questions.jsonl"
    items = [*ITEMS, Item("twin/0", "Is it 0?", "0.png"), Item("bare/0", "What?", "")]
    counts = write_questions(items, output)
    assert counts == {"written": 4, "repeated": 1, "without an image": 1}
    asked = list(open_questions(str(output), images=str(tmp_path / "images")).read())
    assert [(row.cluster, row.prompt, row.image) for row in asked] == [
        (f"q/{n}", f"Is it {n}?", png(n % 2)) for n in range(4)
    ]
    with pytest.raises(ValueError, match="is there already"):
        write_questions(ITEMS, output)
    assert write_questions(ITEMS, tmp_path / "some.jsonl", limit=2)["written"] == 2


def test_replies_of_a_judge_in_a_file(tmp_path: Path) -> None:
    judge = replies_of(lines(tmp_path / "r.jsonl", [{"id": "a", "reply": "correct"}, {"id": 2, "reply": "x"}]))
    assert list(judge([("2", ""), ("a", ""), ("b", "")])) == ["x", "correct", None]
    assert judge_of("yes_no", None, "") is None
    with pytest.raises(ValueError, match="--judge-model"):
        judge_of("http://localhost:1/v1", None, "")
    with pytest.raises(ValueError, match="expected"):
        replies_of(lines(tmp_path / "s.jsonl", [{"id": "a"}]))


def test_an_endpoint_as_the_judge() -> None:
    with judge_server(lambda request, before: Say(f"Rating: {len(text_of(request))}")) as server:
        judge = judge_of(server.url, "m", "")
        assert judge is not None
        assert list(judge([("a", "123"), ("b", "12345")])) == ["Rating: 3", "Rating: 5"]
    assert all(part["type"] == "text" for part in server.requests[0]["messages"][0]["content"])


def test_pope_from_the_command_line(main: Main, tmp_path: Path) -> None:
    questions = vlm_files.pope(tmp_path)
    answers = lines(tmp_path / "a.jsonl", [{"question_id": n, "text": text} for n, text in enumerate(POPE_ANSWERS, 1)])
    base = lines(tmp_path / "b.jsonl", [{"question_id": n, "text": "yes"} for n in range(1, 5)])
    common = ("eval", "--benchmark", "pope", "--questions", questions, "--answers", answers)
    result = main(*common, "--output", tmp_path / "out.json")
    assert result.out.splitlines()[0] == f"POPE: 4 of 4 questions answered ({answers})"
    assert "accuracy %                        50.00  [0.00, 100.00]" in result.out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["parts"]["coco_pope_random"]["accuracy"]["value"] == 50.0
    result = main(*common, "--against", base)
    assert "yes ratio %                      100.00    50.00      -50.00" in result.out


def test_every_benchmark_from_the_command_line(main: Main, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(vlm_files.SYNONYMS)
    hallusion = vlm_files.hallusion(tmp_path)
    names = [
        "_".join(row[name] for name in ("category", "subcategory", "set_id", "figure_id", "question_id"))
        for row in json.loads(hallusion.read_text())
    ]
    replies = [{"id": f"mmhal/{n}", "reply": reply} for n, reply in enumerate(vlm_files.MMHAL_REPLIES)]
    said: dict[str, tuple[Path, list[dict[str, Any]], list[object], str]] = {
        "chair": (
            vlm_files.coco(tmp_path / "coco"),
            [{"image_id": n, "caption": text} for n, text in vlm_files.CHAIR_ANSWERS.items()],
            ["--synonyms", tmp_path / "words.txt"],
            "CHAIR_s %                         33.33",
        ),
        "amber": (
            vlm_files.amber(tmp_path / "amber"),
            [{"id": n, "response": text} for n, text in vlm_files.AMBER_ANSWERS.items()],
            [],
            "score, points                      50.0",
        ),
        "hallusion": (
            hallusion,
            [{"id": n, "model_prediction": t} for n, t in zip(names, vlm_files.HALLUSION_ANSWERS, strict=True)],
            ["--judge", "yes_no"],
            "qAcc %                            33.33",
        ),
        "mmhal": (
            vlm_files.mmhal(tmp_path),
            [{"id": n, "model_answer": "x"} for n in range(3)],
            ["--judge", lines(tmp_path / "replies.jsonl", replies)],
            "score, of 6                        2.67",
        ),
    }
    for name, (questions, rows, more, line) in said.items():
        answers = lines(tmp_path / f"{name}.jsonl", rows)
        result = main("eval", "--benchmark", name, "--questions", questions, "--answers", answers, *more)
        assert result.code == 0, result.err
        assert line in result.out
    answers = vlm_files.mme_answers(tmp_path / "said")
    result = main("eval", "--benchmark", "mme", "--questions", tmp_path / "mme", "--answers", answers)
    assert "score of 2 tasks, points          125.0" in result.out


def test_options_that_do_not_fit_are_refused(main: Main, tmp_path: Path) -> None:
    questions = vlm_files.pope(tmp_path)
    mmhal, coco = vlm_files.mmhal(tmp_path), vlm_files.coco(tmp_path / "coco")
    answers = lines(tmp_path / "a.jsonl", [{"id": 7, "text": "x"}, {"id": 0, "text": "y"}])
    cases: list[tuple[list[object], str]] = [
        ([], "RUN: name a finished run's folder"),
        (["--answers", answers], "--answers: add --benchmark"),
        (["--benchmark", "popes"], "did you mean 'pope'"),
        (["--benchmark", "pope"], "--questions: name POPE's own files"),
        (["--benchmark", "pope", "--questions", tmp_path / "x"], "no such file"),
        (["--benchmark", "pope", "--questions", questions], "--answers: name the answers"),
        (["--benchmark", "pope", "--questions", questions, "--answers", tmp_path / "x"], "no such file"),
        (["run", "--benchmark", "pope", "--questions", questions], "run: no such folder"),
        (["--benchmark", "chair", "--questions", coco, "--answers", answers], "--synonyms: CHAIR needs a file"),
        (
            ["--benchmark", "mmhal", "--questions", mmhal, "--answers", answers, "--partial"],
            "--judge: MMHal-Bench needs one",
        ),
        (["--benchmark", "pope", "--questions", questions, "--answers", answers, "--limit", 3], "--limit: is of"),
    ]
    for arguments, message in cases:
        assert_refused(main("eval", *arguments), message)


def test_questions_are_written_with_what_to_run_next(main: Main, tmp_path: Path) -> None:
    questions, output = vlm_files.pope(tmp_path), tmp_path / "q.jsonl"
    result = main("eval", "--benchmark", "pope", "--questions", questions, "--write-questions", output)
    assert f"next: mmpo respond {output} data.images=IMAGES responses.count=1 responses.temperature=0" in result.out
    assert len(output.read_text().splitlines()) == 4
