"""`mmpo respond`: the same rows however a call was cut short or shared out, and rows that label and pair read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from command_line import Main, assert_refused
from datasets import load_dataset
from PIL import Image
from tiny_vlms import make_llava

import rewards.vlm_sampling
from mmpo.data.shards import read_done, read_rows
from mmpo.recipe_files import load_as, shipped_recipes
from mmpo.respond_recipe import RespondRecipe
from pipelines import respond as respond_module
from pipelines.respond import respond

main = command_line.main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA, and seven questions of which two cannot be asked."""
    folder = tmp_path_factory.mktemp("world")
    make_llava(folder / "llava")
    (folder / "llava" / "README.md").write_text("---\nlicense: llama2\n---\n")
    questions = folder / "questions"
    questions.mkdir()
    rows = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(questions / f"{number}.png")
        rows.append({"image": f"{number}.png", "question": f"What is number {number}?", "split": "tune"})
    (questions / "3.png").write_bytes((questions / "3.png").read_bytes()[:200])
    rows.insert(2, {"image": "1.png", "question": "Is it </s> or not?", "split": "tune"})
    (questions / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe(world: Path, output: Path, *changes: str) -> RespondRecipe:
    """Three answers of eight tokens, two questions a shard."""
    given = [f"model.path={world / 'llava'}", f"data.path={world / 'questions'}", f"output={output}"]
    given += ["model.dtype=float32", "model.device=cpu", "responses.max_new_tokens=8", "responses.count=3"]
    return load_as(RespondRecipe, None, [*given, "responses.questions_per_shard=2", *changes])


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted call writes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    respond(recipe(world, folder))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is written, byte for byte, but the recipe, which names the folder."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "respond.yaml"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_rows_hold_the_answers_with_what_made_each(world: Path, whole: Path) -> None:
    rows = [row for _, row in read_rows(whole)]
    assert [row["prompt"] for row in rows] == [f"What is number {n}?" for n in (0, 1, 2, 4, 5)]
    assert len({row["id"] for row in rows}) == len({row["key"] for row in rows}) == 5
    assert {row["split"] for row in rows} == {"tune"}
    assert rows[0]["image"]["bytes"] == (world / "questions" / "0.png").read_bytes()
    for row in rows:
        made = json.loads(row["provenance"])
        assert len(made) == len(row["responses"]) >= 1
        assert made[0] | {"number": 0, "cut": True} == {
            "model": str(world / "llava"),
            "weights": made[0]["weights"],
            "dtype": "float32",
            "temperature": 0.7,
            "top_p": 0.95,
            "max_new_tokens": 8,
            "seed": 0,
            "licence": "llama2",
            "number": 0,
            "cut": True,
        }
        assert made[0]["weights"].startswith("sha256:")
    texts = [text for row in rows for text in row["responses"]]
    assert len(set(texts)) == len(texts)
    done = read_done(whole)
    assert done is not None
    summary = done["summary"]
    assert summary["responses"] + summary.get("unusable", 0) == 15
    assert (summary["rows"], summary["bad"], summary["shards"]) == (5, 2, 4)
    assert "line 3: the text holds '</s>'" in summary["first_bad"][0]
    assert "line 5" in summary["first_bad"][1]
    assert load_dataset(str(whole), split="train")["responses"][0] == rows[0]["responses"]


def test_a_call_that_is_killed_anywhere_and_goes_on_writes_the_same(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    for name, after in (("write_side", 1), ("write_shard", 2), ("mark_done", 0)):
        folder, left = tmp_path / name, [after]
        inner = getattr(respond_module, name)

        def dying(*arguments: Any, inner: Any = inner, left: list[int] = left) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return inner(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(respond_module, name, dying)
            with pytest.raises(Killed):
                respond(recipe(world, folder))
        assert read_done(folder) is None
        respond(recipe(world, folder))
        assert contents(folder) == contents(whole)


def test_what_is_there_is_not_asked_again(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    respond(recipe(world, folder))
    (folder / "done.json").unlink()
    (folder / "shard-00001.parquet").unlink()
    asked: list[int] = []
    inner = rewards.vlm_sampling.sampled_answers

    def counted(vlm: Any, questions: Any, *rest: Any, **options: Any) -> Any:
        asked.extend(range(len(questions)))
        return inner(vlm, questions, *rest, **options)

    monkeypatch.setattr(respond_module, "sampled_answers", counted)
    respond(recipe(world, folder))
    assert len(asked) == 1  # of the shard's two, one has a mark in it
    assert contents(folder) == contents(whole)
    monkeypatch.setattr(respond_module, "load_vlm", None)
    assert respond(recipe(world, folder)) == read_done(folder)


def test_two_processes_write_what_one_does(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert respond(recipe(world, tmp_path / "out")) is None
    assert sorted(file.name for file in (tmp_path / "out").glob("*.parquet")) == [
        *("shard-00001.parquet", "shard-00003.parquet")
    ]
    monkeypatch.setenv("RANK", "0")
    respond(recipe(world, tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(whole)


def test_answers_do_not_depend_on_batch_count_or_place(world: Path, whole: Path, tmp_path: Path) -> None:
    base = {row["prompt"]: row["responses"] for _, row in read_rows(whole)}
    respond(recipe(world, tmp_path / "batch", "responses.batch_size=2"))
    assert {row["prompt"]: row["responses"] for _, row in read_rows(tmp_path / "batch")} == base
    lines = (world / "questions" / "a.jsonl").read_text().splitlines()
    last = world / "questions-last"
    last.mkdir(exist_ok=True)
    (last / "a.jsonl").write_text(lines[-1])
    (last / "5.png").write_bytes((world / "questions" / "5.png").read_bytes())
    respond(recipe(world, tmp_path / "last", f"data.path={last}", "responses.count=2"))
    ((_, row),) = read_rows(tmp_path / "last")
    numbers = [one["number"] for one in json.loads(row["provenance"])]
    assert row["responses"] == base["What is number 5?"][: len(numbers)]
    respond(recipe(world, tmp_path / "seed", "responses.seed=1", f"data.path={last}"))
    ((_, other),) = read_rows(tmp_path / "seed")
    assert not set(other["responses"]) & set(base["What is number 5?"])
    assert other["id"] != row["id"]


def test_a_limit_counts_questions_that_can_be_read(world: Path, tmp_path: Path) -> None:
    done = respond(recipe(world, tmp_path / "out", "data.limit=2"))
    assert done is not None
    assert (done["summary"]["rows"], done["summary"]["shards"]) == (2, 1)


def test_a_folder_of_other_settings_or_other_data_is_refused(world: Path, whole: Path, tmp_path: Path) -> None:
    for change, named in {
        "responses.seed=3": "responses.seed",
        "responses.top_p=0.5": "responses.top_p",
        "model.dtype=bfloat16": "model.dtype",
        "data.limit=3": "data.limit",
    }.items():
        with pytest.raises(ValueError, match=rf"made with other settings \({named}\); give another output"):
            respond(recipe(world, whole, change))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="holds what mmpo respond did not write"):
        respond(recipe(world, tmp_path / "full"))
    rows = world / "moving"
    rows.mkdir()
    (rows / "0.png").write_bytes((world / "questions" / "0.png").read_bytes())
    (rows / "a.jsonl").write_text('{"image": "0.png", "question": "A?"}')
    given = recipe(world, tmp_path / "out", f"data.path={rows}")
    respond(given)
    (tmp_path / "out" / "done.json").unlink()
    (rows / "a.jsonl").write_text('{"image": "0.png", "question": "B?"}')
    with pytest.raises(ValueError, match="shard 0 answers other questions than the data now holds"):
        respond(given)


def test_a_bad_row_ends_the_call_where_the_recipe_says_so(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3: the text holds '</s>'.*on_bad_row is error"):
        respond(recipe(world, tmp_path / "out", "data.on_bad_row=error"))
    (tmp_path / "none.jsonl").write_text('{"image": "x.png", "question": "A?"}')
    with pytest.raises(
        ValueError, match=r"no question could be answered, of 1 rows; the first: .*no such file: x\.png"
    ):
        respond(recipe(world, tmp_path / "none", f"data.path={tmp_path / 'none.jsonl'}"))


def test_answers_are_labelled_paired_and_written_as_llava_reads_them(world: Path, tmp_path: Path, main: Main) -> None:
    out, labels, pairs = tmp_path / "out", tmp_path / "labels", tmp_path / "pairs"
    options = ["model.dtype=float32", "responses.max_new_tokens=8", "data.limit=4"]
    result = main("respond", world / "questions", "--model", world / "llava", "-o", out, *options)
    assert result.code == 0, result
    assert "answers to 3 questions" in result.out
    assert f"next: mmpo label {out} --reward vqascore" in result.out
    result = main("label", out, "-o", labels, "-r", f"vqascore,weights={world / 'llava'},dtype=float32")
    assert result.code == 0, result
    assert " of 3 groups" in result.out
    result = main("data", "pair", out, "--labels", labels, "-o", pairs)
    assert result.code == 0, result
    rows = [row for _, row in read_rows(pairs)]
    assert len(rows) == 3
    answers = {row["prompt"]: row for _, row in read_rows(out)}
    for row in rows:
        assert {row["chosen"], row["rejected"]} <= set(answers[row["prompt"]]["responses"])
        made = json.loads(row["provenance"])
        number = answers[row["prompt"]]["responses"].index(row["chosen"])
        assert made[0] == json.loads(answers[row["prompt"]]["provenance"])[number]
        assert row["key"] == answers[row["prompt"]]["key"]
        assert row["scores"]["vqascore"][0] > row["scores"]["vqascore"][1]
    result = main("data", "convert", pairs, tmp_path / "llava", "--to", "llava")
    assert result.code == 0, result
    written = json.loads((tmp_path / "llava" / "llava.json").read_text())
    assert [one["conversations"] for one in written] == [
        [{"from": "human", "value": f"<image>\n{row['prompt']}"}, {"from": "gpt", "value": row["chosen"]}]
        for row in rows
    ]
    assert [(tmp_path / "llava" / one["image"]).read_bytes() for one in written] == [
        row["images"][0]["bytes"] for row in rows
    ]


def test_the_command_says_what_it_would_do_and_refuses_what_is_not_there(
    world: Path, whole: Path, tmp_path: Path, main: Main
) -> None:
    place = ["--model", world / "llava", "-o", tmp_path / "out"]
    result = main("respond", world / "questions", *place, "--dry-run", "responses.count=2")
    assert result.code == 0, result
    assert "licence llama2" in result.out
    assert "questions, JSON lines, 7 rows, read as images" in result.out
    assert "2 each, temperature 0.7, top_p 0.95, at most 512 tokens, seed 0" in result.out
    assert f"next: mmpo respond data.path={world / 'questions'} model.path={world / 'llava'}" in result.out
    assert not (tmp_path / "out").exists()
    shipped = main("respond", "llava_responses", "--dry-run")
    assert shipped.code == 0, shipped
    assert "llava-hf/llava-1.5-7b-hf, of the hub" in shipped.out
    assert "data/questions: not on this machine" in shipped.out
    assert_refused(main("respond"), "give questions with --model and --output")
    assert_refused(main("respond", "nowhere.jsonl", *place), "nowhere.jsonl: no such file or folder")
    assert_refused(main("respond", world / "questions", "-o", tmp_path / "x"), "model: missing")
    assert_refused(
        main("respond", world / "questions", "--model", "./gone", "-o", tmp_path / "x"), "gone: no such file or folder"
    )
    assert_refused(main("respond", world / "questions", *place, "responses.temperature=0"), "every answer is the same")
    assert_refused(main("respond", world / "questions", *place, "responses.topp=1"), "did you mean 'top_p'")
    assert_refused(main("data", "convert", world / "questions", tmp_path / "x", "--to", "llava"), "is read as images")


def test_the_shipped_recipe_is_found_by_its_kind_alone() -> None:
    assert list(shipped_recipes(RespondRecipe)) == ["llava_responses"]
    assert "llava_responses" not in shipped_recipes()


def test_rows_of_answers_are_counted_in_the_models_own_template(world: Path, tmp_path: Path) -> None:
    """The tiny LLaVA's tokens are bytes, and an image is 4 of them."""
    from answer_files import pictures, write_json

    from mmpo.data.answer_readers import read_answers
    from pipelines.data_answer_tokens import token_counter

    count = token_counter(str(world / "llava"))
    pictures(tmp_path)
    row = {"images": ["0.png"], "prompt": "What is it?", "chosen": "A small cat.", "rejected": "A small horse."}
    (pair,) = read_answers(write_json(tmp_path / "d.json", [row]))
    template = "USER: \nWhat is it? ASSISTANT: A small cat. "
    found = count(pair)
    assert (found.image_tokens, found.chosen, found.rejected) == (4, 4 + len(template), 6 + len(template))
    with pytest.raises(ValueError, match="processor cannot be had"):
        token_counter(str(tmp_path))
