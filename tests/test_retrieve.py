"""`mmpo retrieve`: pairs with rejected images, the same however a call was cut short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import torch
from command_line import Main, assert_refused
from PIL import Image
from tiny_vlms import make_llava

from mmpo.answer_pairs import AnswerPair
from mmpo.data.answer_readers import read_answers
from mmpo.data.images import decode
from mmpo.data.shards import read_done, read_rows
from mmpo.recipe_files import load_as, shipped_recipes
from mmpo.retrieve_recipe import RetrieveRecipe
from pipelines import retrieve as retrieve_module
from pipelines import retrieve_steps
from pipelines.retrieve import retrieve
from pipelines.retrieve_steps import Steps, ToComplete, ToMask, word_spans
from rewards.vlm_sampling import Answer

main = command_line.main

COLOURS = ("red", "green", "blue", "white", "black", "grey")
RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
RGB |= {"black": (1, 0, 0), "grey": (128, 128, 128)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA, and answers about six pictures of one colour each; one cannot be read, one says nothing."""
    folder = tmp_path_factory.mktemp("world")
    make_llava(folder / "llava")
    answers = folder / "answers"
    answers.mkdir()
    rows = []
    for name in COLOURS:
        Image.new("RGB", (30, 30), RGB[name]).save(answers / f"{name}.png")
        rows.append({"image": f"{name}.png", "question": "What is it?", "response": f"It is a {name} square."})
    rows.append({"image": "red.png", "question": "Is it </s> or not?", "response": "It is red."})
    rows.append({"image": "green.png", "question": "Is it?", "response": "Yes, it is."})
    rows.append({"image": "red.png", "question": "What is it?", "response": "It is a red square."})
    (answers / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe(world: Path, output: Path, *changes: str) -> RetrieveRecipe:
    """Eight new tokens, three neighbours, two rows a shard."""
    given = [f"model.path={world / 'llava'}", f"data.path={world / 'answers'}", f"output={output}"]
    given += ["model.dtype=float32", "model.device=cpu", "retrieval.max_new_tokens=8", "retrieval.neighbours=3"]
    given += ["retrieval.similarity=words", "retrieval.copy_cosine=1", "retrieval.rows_per_shard=2"]
    return load_as(RetrieveRecipe, None, [*given, *changes])


def colour_of(image: Image.Image) -> str:
    """Which of the pictures it is."""
    return next(name for name in COLOURS if RGB[name] == image.getpixel((3, 3)))


def honest(asked: Sequence[ToComplete]) -> list[Answer]:
    """What sees the picture."""
    return [Answer(one.masked.replace("[MASK]", f"{colour_of(one.image)} square")) for one in asked]


def stub_steps(**changes: Any) -> Steps:
    """Colours as features, and completions that tell them."""
    steps = Steps(
        embed=lambda image: torch.tensor([*image.getpixel((3, 3)), 40.0]),
        find_spans=word_spans,
        complete=honest,
        fault=lambda text: "holds a mark" if "</s>" in text else None,
        similarity=lambda ones, others: [float(one == other) for one, other in zip(ones, others, strict=True)],
        identity={"all": "stubs"},
    )
    return replace(steps, **changes)


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted call of the model itself writes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    retrieve(recipe(world, folder))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is written, byte for byte, but the recipe, which names the folder."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "retrieve.yaml"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def pairs(folder: Path) -> list[AnswerPair]:
    """The rows as our readers give them."""
    return list(read_answers(str(folder), on_bad_row="error"))


def test_rows_are_pairs_of_answers_and_of_images(world: Path, whole: Path) -> None:
    found = pairs(whole)
    assert [pair.chosen for pair in found] == [f"It is a {name} square." for name in COLOURS]
    done = read_done(whole)
    assert done is not None
    summary = done["summary"]
    assert (summary["rows"], summary["bad"], summary["unmaskable"], summary["repeated"]) == (6, 1, 1, 1)
    assert "'</s>'" in summary["first_bad"][0]
    files = {(world / "answers" / f"{name}.png").read_bytes() for name in COLOURS}
    for pair in found:
        assert pair.rejected_images is not None
        assert pair.rejected not in (None, "", pair.chosen)
        assert {*pair.images, *pair.rejected_images} <= files
        assert pair.images != pair.rejected_images
    for _, row in read_rows(whole):
        made = json.loads(row["provenance"])[1]
        assert made["masked"] == "It is a [MASK]."
        assert made["retrieved"] == row["rejected_image_hashes"][0]
        assert made["weights"].startswith("sha256:")
        assert made["text_cosine"] < 0.95
        assert 1 <= made["tries"] <= 3


def test_the_nearest_other_picture_is_taken_and_the_first_completion_that_differs(world: Path, tmp_path: Path) -> None:
    """Cosines of the colours by hand."""
    retrieve(recipe(world, tmp_path / "out"), stub_steps())
    nearest = {}
    features = {name: np.array([*RGB[name], 40.0]) for name in COLOURS}
    for name, own in features.items():
        others = {o: own @ f / np.linalg.norm(own) / np.linalg.norm(f) for o, f in features.items() if o != name}
        nearest[name] = max(others, key=lambda other: others[other])
    for pair in pairs(tmp_path / "out"):
        own, other = (colour_of(decode(image)) for image in (*pair.images, *(pair.rejected_images or ())))
        assert other == nearest[own]
        assert pair.rejected == f"It is a {other} square."


def test_a_row_goes_on_to_the_next_picture_and_is_skipped_after_the_last(world: Path, tmp_path: Path) -> None:
    tried: list[tuple[str, str]] = []

    def repeats_red(asked: Sequence[ToComplete]) -> list[Answer]:
        """Says the right thing of red's neighbours, but for the third; leaves green's masks; is silent of blue."""
        said = []
        for one in asked:
            tried.append((one.question, colour_of(one.image)))
            times = sum(question == one.question for question, _ in tried)
            texts = {"q red": "It is a red square." if times < 3 else "It is a pig.", "q green": one.masked}
            said.append(Answer(texts.get(one.question, "")))
        return said

    rows = [
        {
            "image": str(world / "answers" / f"{name}.png"),
            "question": f"q {name}",
            "response": f"It is a {name} square.",
        }
        for name in ("red", "green", "blue", "white")
    ]
    for row in rows:
        row["image"] = Path(row["image"]).name
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = recipe(world, tmp_path / "out", f"data.path={tmp_path / 'a.jsonl'}", f"data.images={world / 'answers'}")
    done = retrieve(given, stub_steps(complete=repeats_red))
    assert done is not None
    assert (done["summary"]["rows"], done["summary"]["exhausted"], done["summary"]["completions"]) == (1, 3, 12)
    (pair,) = pairs(tmp_path / "out")
    assert (pair.chosen, pair.rejected) == ("It is a red square.", "It is a pig.")
    made = json.loads(next(row for _, row in read_rows(tmp_path / "out"))["provenance"])[1]
    assert made["tries"] == 3
    given = recipe(world, tmp_path / "none", "retrieval.neighbours=1")
    with pytest.raises(ValueError, match=r"not one pair was made; .* no completion below tau: 6"):
        retrieve(given, stub_steps(complete=lambda asked: [Answer("") for _ in asked]))
    assert read_done(tmp_path / "none") is None


def test_the_rows_own_picture_is_never_retrieved_in_whatever_file_it_stands(world: Path, tmp_path: Path) -> None:
    """Three files, two of which show the same pixels: each of these has only the third as its neighbour."""
    folder = tmp_path / "answers"
    folder.mkdir()
    Image.new("RGB", (30, 30), RGB["red"]).save(folder / "one.png")
    Image.new("RGB", (30, 30), RGB["red"]).save(folder / "two.bmp")
    Image.new("RGB", (30, 30), RGB["blue"]).save(folder / "three.png")
    rows = [{"image": name, "question": "?", "response": "A red pig."} for name in ("one.png", "two.bmp", "three.png")]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    retrieve(recipe(world, tmp_path / "out", f"data.path={folder}", "retrieval.neighbours=10"), stub_steps())
    found = [
        (colour_of(decode(p.images[0])), colour_of(decode((p.rejected_images or ())[0])))
        for p in pairs(tmp_path / "out")
    ]
    assert found == [("red", "blue"), ("red", "blue"), ("blue", "red")]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    with pytest.raises(ValueError, match="no other image: 2"):
        retrieve(recipe(world, tmp_path / "alone", f"data.path={folder}"), stub_steps())


def test_a_call_that_is_killed_anywhere_and_goes_on_writes_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    from pipelines import retrieve_index

    retrieve(recipe(world, tmp_path / "whole"), stub_steps())
    places = [(retrieve_index, "write_side", 0), (retrieve_index, "write_shard", 0), (retrieve_module, "write_side", 1)]
    places += [(retrieve_module, "write_shard", 2), (retrieve_module, "mark_done", 0)]
    for number, (module, name, after) in enumerate(places):
        folder, left = tmp_path / str(number), [after]
        inner = getattr(module, name)

        def dying(*arguments: Any, inner: Any = inner, left: list[int] = left) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return inner(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying)
            with pytest.raises(Killed):
                retrieve(recipe(world, folder), stub_steps())
        assert read_done(folder) is None
        retrieve(recipe(world, folder), stub_steps())
        assert contents(folder) == contents(tmp_path / "whole")


def test_a_shard_that_is_there_is_not_made_again_and_a_finished_folder_loads_nothing(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrieve(recipe(world, tmp_path / "out"), stub_steps())
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "done.json").unlink()
    (tmp_path / "out" / "shard-00001.parquet").unlink()
    asked: list[str] = []

    def counted(some: Sequence[ToComplete]) -> list[Answer]:
        asked.extend(one.masked for one in some)
        return honest(some)

    retrieve(recipe(world, tmp_path / "out"), stub_steps(complete=counted, embed=None))
    assert len(asked) == 2
    assert contents(tmp_path / "out") == before
    monkeypatch.setattr(retrieve_module, "default_steps", None)
    assert retrieve(recipe(world, whole)) == read_done(whole)


def test_another_setting_or_another_step_is_refused_in_a_folder(world: Path, whole: Path, tmp_path: Path) -> None:
    for change, name in (("retrieval.tau=0.5", "retrieval.tau"), ("retrieval.mask=model", "retrieval.mask")):
        with pytest.raises(ValueError, match=rf"made with other settings \({name}\)"):
            retrieve(recipe(world, whole, change))
    with pytest.raises(ValueError, match=r"steps\.all"):
        retrieve(recipe(world, whole), stub_steps())
    assert retrieve(recipe(world, whole, "retrieval.batch_size=2")) is not None
    with pytest.raises(ValueError, match=r"line 7: holds a mark \(data.on_bad_row is error"):
        retrieve(recipe(world, tmp_path / "strict", "data.on_bad_row=error"), stub_steps())


def test_completions_at_once_are_the_same_as_one_by_one(world: Path, whole: Path, tmp_path: Path) -> None:
    """In float32 on the CPU and for these prompts, whose rounding moves nothing."""
    retrieve(recipe(world, tmp_path / "out", "retrieval.batch_size=4"))
    assert [p.rejected for p in pairs(tmp_path / "out")] == [p.rejected for p in pairs(whole)]


def test_the_model_may_mask_by_itself_and_what_it_changes_besides_is_a_bad_row(world: Path) -> None:
    class Vlm:
        said = "It is a [MASK]."

        def answers(self, questions: Any, *, tokens: int) -> Any:
            return [self.said], [None]

    spans = retrieve_steps.model_spans(Vlm(), 8)  # type: ignore[arg-type]
    row = ToMask("What is it?", "It is a red square.", Image.new("RGB", (4, 4)))
    assert [row.answer[slice(*span)] for span in spans(row)] == ["red square"]
    Vlm.said = "It was a [MASK]."
    with pytest.raises(ValueError, match="nothing else may change"):
        spans(row)


def test_conversations_give_their_first_question_and_answer(world: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A red pig."}]
    bad = [{"from": "human", "value": "What?"}]
    rows = [{"image": f"{name}.png", "conversations": turns} for name in ("red", "blue")]
    rows.append({"image": "green.png", "conversations": bad})
    (tmp_path / "a.json").write_text(json.dumps(rows))
    places = [f"data.path={tmp_path / 'a.json'}", f"data.images={world / 'answers'}"]
    done = retrieve(recipe(world, tmp_path / "out", *places), stub_steps())
    assert done is not None
    assert "holds no answer" in done["summary"]["first_bad"][0]
    assert [(p.prompt.text, p.chosen, p.rejected) for p in pairs(tmp_path / "out")] == [
        ("What?", "A red pig.", "A blue square."),
        ("What?", "A red pig.", "A red square."),
    ]


def test_images_may_be_retrieved_from_another_place(world: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    Image.new("RGB", (8, 8), RGB["grey"]).save(pool / "grey.png")
    retrieve(recipe(world, tmp_path / "out", f"retrieval.images={pool}", "data.limit=2"), stub_steps())
    found = pairs(tmp_path / "out")
    assert [colour_of(decode((pair.rejected_images or ())[0])) for pair in found] == ["grey", "grey"]


def test_the_command_says_what_it_would_do_and_what_it_did(
    world: Path, whole: Path, tmp_path: Path, main: Main
) -> None:
    place = ["--model", world / "llava", "-o", tmp_path / "out"]
    result = main("retrieve", world / "answers", *place, "--dry-run", "retrieval.similarity=words")
    assert result.code == 0, result
    assert "JSON lines, 9 rows" in result.out
    assert "of which the 10 nearest are tried, by torch" in result.out
    assert "below 0.95 by counts of words" in result.out
    assert not (tmp_path / "out").exists()
    again = [f"{key}={value}" for key, value in _flat(recipe(world, whole))]
    result = main("retrieve", *again)
    assert result.code == 0, result
    assert "6 pairs" in result.out
    assert "left out, answers with nothing to mask: 1" in result.out
    assert "left out, bad rows: 1" in result.out
    shipped = main("retrieve", "llava_retrieval", "--dry-run")
    assert shipped.code == 0, shipped
    assert "data/answers: not on this machine" in shipped.out
    assert_refused(main("retrieve"), "give answers with --model and --output")
    assert_refused(main("retrieve", "nowhere.jsonl", *place, "retrieval.similarity=words"), "nowhere.jsonl: no such")
    assert_refused(main("retrieve", world / "answers", *place, "retrieval.taus=1"), "did you mean 'tau'")


def test_a_model_that_is_not_there_leaves_no_folder(world: Path, tmp_path: Path) -> None:
    """So that the command goes through with the setting mended."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no text encoder"):
        retrieve(recipe(world, tmp_path / "out", f"retrieval.similarity={tmp_path / 'empty'}"))
    assert not (tmp_path / "out").exists()


def _flat(given: RetrieveRecipe) -> list[tuple[str, Any]]:
    tree = given.model_dump(mode="json")
    said = [(f"{s}.{k}", v) for s in ("model", "data", "retrieval") for k, v in tree[s].items()]
    return [("output", given.output), *((key, value) for key, value in said if value not in (None, {}))]


def test_the_shipped_recipe_is_found_by_its_kind_alone() -> None:
    assert list(shipped_recipes(RetrieveRecipe)) == ["llava_retrieval"]


def test_texts_are_compared_by_the_mean_state_of_a_text_encoder(tmp_path: Path) -> None:
    from tiny_vlms import byte_tokenizer
    from transformers import BertConfig, BertModel

    from pipelines.retrieve_similarity import TextEncoder

    marks = ["<unk>", "<pad>"]
    tokenizer = byte_tokenizer(marks, unk_token="<unk>", pad_token="<pad>")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **sizes)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ones, others = ["a cat", "a cat", "x" * 40], ["a cat", "two dogs", "x" * 16]
    with torch.no_grad():
        means = [
            [
                model(input_ids=tokenizer(t[:16], return_tensors="pt")["input_ids"]).last_hidden_state[0].mean(0)
                for t in s
            ]
            for s in (ones, others)
        ]
    wanted = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(*means, strict=True)]
    assert TextEncoder(str(tmp_path), device="cpu")(ones, others) == pytest.approx(wanted, abs=1e-5)
    assert wanted[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="no text encoder of transformers"):
        TextEncoder(str(tmp_path.parent), device="cpu")
