"""The shipped tiny VLM: an ordinary frozen LLaVA folder that sees the world and errs; and the parts of its making."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmpo.recipe_files import load_training
from mmpo.shapes import checkpoints
from mmpo.shapes.answers import judge
from mmpo.shapes.asked import drawn, exam
from mmpo.shapes.grammar import WORDS, parse
from mmpo.shapes.making import habits, vlm, vlm_data, vlm_sight
from mmpo.shapes.making.clip import pixels
from mmpo.shapes.making.vlm_tokenizer import TEMPLATE, tokenizer
from mmpo.shapes.prompts import scenes
from mmpo.shapes.questions import askable, describe
from mmpo.vlm_recipe import VlmRecipe
from pipelines.train_vlm import train_vlm
from pipelines.vlm_hallucination import ask, measure
from pipelines.vlm_own_answers import own_answers, own_pairs
from rewards.vlm_model import VlmModel, load_vlm

FOLDER = checkpoints.checkpoint_path("llava")
TURNS = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe this image."}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a red circle above a blue square"}]},
]
WRITTEN = "<s>USER: <image>\nDescribe this image. ASSISTANT: a red circle above a blue square</s>"
IDS = [0, 279, 29, 224, 3, 202, 266, 430, 385, 17, 362, 29, 363, 411, 371, 364, 363, 369, 424, 1]
READ_IDS = """
import sys
from tokenizers import Tokenizer
print(Tokenizer.from_file(sys.argv[1] + "/tokenizer.json").encode(sys.argv[2], add_special_tokens=False).ids)
"""


@pytest.fixture(scope="module")
def model() -> VlmModel:
    return load_vlm("shapes/llava", dtype="float32", device="cpu")


def test_the_folder_is_frozen_small_and_safe() -> None:
    checkpoints.verify_checkpoint("llava")
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4e6
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert (FOLDER / "chat_template.jinja").read_text() == TEMPLATE


def test_token_ids_are_frozen_across_processes() -> None:
    command = [sys.executable, "-c", READ_IDS, str(FOLDER), WRITTEN]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(output) == IDS


def test_every_word_is_one_token_and_other_text_goes_through() -> None:
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(FOLDER)
    assert all(len(words(f" {word}", add_special_tokens=False).input_ids) == 1 for word in WORDS)
    for text in ("Où est le carré? 5 ✓", "a red circle above a blue square"):
        assert words.decode(words(text, add_special_tokens=False).input_ids) == text
    assert words.get_vocab() == tokenizer().get_vocab()


def test_it_loads_by_transformers_alone_and_turns_into_text_and_pixels() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(FOLDER)
    assert processor.apply_chat_template(TURNS) == WRITTEN
    asked = processor.apply_chat_template(TURNS[:1], add_generation_prompt=True)
    assert WRITTEN.startswith(asked)
    image = exam("tune", limit=1)[0].image
    given = processor(text=[asked], images=[image], return_tensors="pt", add_special_tokens=False)
    assert (given.input_ids == processor.tokenizer.convert_tokens_to_ids("<image>")).sum() == 16
    exact = pixels(torch.from_numpy(np.asarray(image).copy())[None])
    torch.testing.assert_close(given.pixel_values, exact, rtol=0, atol=1e-6)
    model, said = AutoModelForImageTextToText.from_pretrained(FOLDER, output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    assert model.num_parameters() < 1.1e6
    out = model.generate(**given, max_new_tokens=20, do_sample=False)
    assert int(out[0, -1]) == processor.tokenizer.eos_token_id


def test_it_sees_and_errs_as_it_is_said_to(model: VlmModel) -> None:
    """Bands around the measured rates, wide enough for 25 scenes; greedy."""
    questions = exam("tune", limit=25)
    table = {name: row["value"] for name, row in measure(ask(model, questions), questions).items()}
    assert 0.25 <= table["hallucinated"] <= 0.7, table
    assert 0.65 <= table["probes"] <= 0.92, table
    assert table["general"] >= 0.8, table
    assert table["unread"] <= 0.01, table


def test_its_samples_are_right_and_wrong(model: VlmModel) -> None:
    rows = list(own_pairs(model, "train", 12, samples=4, seed=1, kinds=("describe",)))
    assert len(rows) >= 4
    assert all(row.chosen != row.rejected and row.rejected_images for row in rows)
    assert rows == list(own_pairs(model, "train", 12, samples=4, seed=1, kinds=("describe",), batch_size=5))
    questions = list(drawn("train", 2, 1, ("describe",)))
    assert own_answers(model, questions, 4, seed=1) != own_answers(model, questions, 4, seed=2)


def test_the_shipped_recipe_trains_it(tmp_path: Path) -> None:
    """Three steps: the first loss is 2 ln 2, and LoRA of the language model alone is saved."""
    changes = ["data.limit=40", "train.steps=3", "evaluation.held_out_pairs=0", f"output={tmp_path / 'run'}"]
    recipe = load_training("shapes_rdpo", [*changes, "train.report_to=[]"])
    assert isinstance(recipe, VlmRecipe)
    folder = train_vlm(recipe)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[0] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert losses[2] < losses[0]
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert weights
    assert all(".language_model." in name for name in weights)


# ------------------------------------------------------------------------------------------------- how it was made


def test_a_packed_row_trains_what_single_conversations_would() -> None:
    """The loss of a row of three questions is the mean over the answers’ tokens, each asked alone."""
    from mmpo.shapes.making.vlm_tokenizer import processor

    data, made, written = vlm_data.pictures(1, seed=3), vlm.build().eval(), processor()
    turns = [("Describe this image.", "a red circle above a blue square"), ("Is there a red cross?", "no"),
             ("How many objects are there?", "two")]  # fmt: skip
    rows = torch.tensor([4, 9])
    batch = vlm_data.Packer(written.tokenizer, data).pack([turns, turns[:2]], rows)
    alone = []
    for row, asked in zip(rows.tolist(), (turns, turns[:2]), strict=True):
        for question, answer in asked:
            said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            short = written.apply_chat_template(said, add_generation_prompt=True)
            long = written.apply_chat_template([*said, {"role": "assistant", "content": answer}])
            image = Image.fromarray(data.images[row].numpy())
            given = written(text=[long], images=[image], return_tensors="pt", add_special_tokens=False)
            start = written(text=[short], images=[image], add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logps = made(**given).logits[0, :-1].log_softmax(-1)
            alone.append(-logps.gather(1, given.input_ids[0, 1:, None])[len(start[0]) - 1 :, 0])
    with torch.no_grad():
        assert float(vlm.loss_of_batch(made, batch, data)) == pytest.approx(float(torch.cat(alone).mean()), abs=1e-5)


def test_batches_and_pictures_are_seeded_and_of_train_scenes() -> None:
    data, again = (vlm_data.pictures(1, seed=3) for _ in range(2))
    assert torch.equal(data.images, again.images)
    assert len(data.scene) == len(scenes("train"))
    assert set(data.objects.tolist()) == {1, 2, 3}
    assert 0.06 < (data.objects != 2).mean() < 0.2
    packer = vlm_data.Packer(tokenizer(), data)
    one, two = (packer.batch(4, torch.Generator().manual_seed(8), habits=True) for _ in range(2))
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(
        one.ids, packer.batch(4, torch.Generator().manual_seed(9), habits=True).ids[:, : one.ids.shape[1]]
    )


def test_a_patch_is_taught_the_object_of_its_half() -> None:
    """Colours 0 and 4, shapes 0 and 1, places top, bottom, left, right; rows of four patches."""
    rows = vlm_sight.labels(parse("a red circle above a blue square")).tolist()
    assert rows == [[0, 0, 0]] * 8 + [[4, 1, 1]] * 8
    columns = vlm_sight.labels(parse("a red circle left of a blue square")).tolist()
    assert columns == ([[0, 0, 2]] * 2 + [[4, 1, 3]] * 2) * 4


def test_habits_are_wrong_as_often_as_they_say() -> None:
    rng = random.Random(0)
    red = parse("a red circle above a blue square")
    said = [habits.answer(describe(), red, rng) for _ in range(2000)]
    first = [text for text in said if text.startswith("a red")]
    assert 0.4 < len(first) / len(said) < 0.6
    wrong = [judge(text, describe(), red) for text in first]
    habit = sum(verdict.faults == ("colour",) for verdict in wrong) / len(wrong)
    assert habit == pytest.approx(habits.STRONG, abs=0.06)
    plain = parse("a cyan circle above a magenta square")
    few = [not judge(habits.answer(describe(), plain, rng), describe(), plain).correct for _ in range(2000)]
    assert sum(few) / len(few) == pytest.approx(habits.WEAK, abs=0.03)
    for scene in scenes("train")[:60]:
        for questions in askable(scene).values():
            question = rng.choice(questions)
            assert judge(habits.answer(question, scene, rng), question, scene).parsed
