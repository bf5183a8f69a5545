"""The shipped checkpoint: frozen, small, an ordinary Stable Diffusion folder; and its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import forks
import numpy as np
import pytest
import torch
from PIL import Image

from mmpo.shapes import checkpoints
from mmpo.shapes.grammar import WORDS, all_scenes, captions
from mmpo.shapes.prompts import prompts, scenes
from mmpo.shapes.render import render
from mmpo.shapes.verifier import verify

FOLDER = checkpoints.checkpoint_path("sd")
IDS = {
    "": [583, 584],
    "a red circle above a blue square": [583, 320, 559, 535, 515, 320, 525, 568, 584],
    "on the left a red circle and on the right a blue square": [583, 557, 570, 549, 320, 559, 535, 517, 557, 570, 563,
                                                                320, 525, 568, 584],
}  # fmt: skip


def print_ids(texts: list[str]) -> None:
    """The ids of each, as JSON."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    print(json.dumps([tokenizer(text).input_ids for text in texts]))


@pytest.fixture(scope="module")
def pipe():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_hashes_are_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.verify_checkpoint("sd")
    assert len(checkpoints.frozen_hashes("sd")) == sum(path.is_file() for path in FOLDER.rglob("*"))
    monkeypatch.setattr(checkpoints, "_FOLDER", tmp_path)
    shutil.copytree(FOLDER, tmp_path / "sd")
    checkpoints.verify_checkpoint("sd")
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    (tmp_path / "sd" / "more.txt").write_text("")
    with pytest.raises(ValueError, match=r"sd/model_index\.json, sd/more\.txt"):
        checkpoints.verify_checkpoint("sd")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sdxxl' is not shipped; available: .*sd"):
        checkpoints.checkpoint_path("sdxxl")


def test_the_folder_is_small_and_safe() -> None:
    assert not [path for path in FOLDER.rglob("*") if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= 10e6
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == [None, None]


def test_token_ids_are_frozen_across_processes() -> None:
    # Ids, not files, are what an embedding table depends on; they once differed between processes.
    done = forks.call(print_ids, list(IDS))
    assert json.loads(done.out) == list(IDS.values())


def test_each_word_is_one_token_and_no_caption_is_cut(pipe) -> None:
    ids = [pipe.tokenizer(word).input_ids for word in WORDS]
    assert all(len(row) == 3 for row in ids)
    assert len({row[1] for row in ids}) == len(WORDS)
    lengths = {len(pipe.tokenizer(text).input_ids) for scene in all_scenes() for text in captions(scene)}
    assert max(lengths) < pipe.tokenizer.model_max_length == 16


def test_the_builder_still_gives_the_shipped_vocabulary(tmp_path: Path) -> None:
    from mmpo.shapes.making.tokenizer import write

    write(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (FOLDER / "tokenizer" / name).read_bytes()


def _pictures(tensor: torch.Tensor) -> list[Image.Image]:
    pixels = ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in pixels]


@torch.no_grad()
def test_the_autoencoder_keeps_what_the_verifier_reads(pipe) -> None:
    drawn = [(scene, render(scene, 31)) for scene in scenes("tune")]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for _, image in drawn])).permute(0, 3, 1, 2) / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mean
    scaled = latents * pipe.vae.config.scaling_factor
    assert scaled.std((0, 2, 3)) == pytest.approx(torch.ones(4), abs=0.15)
    kept = [verify(image, captions(scene)[0]).correct
            for (scene, _), image in zip(drawn, _pictures(pipe.vae.decode(latents).sample), strict=True)]  # fmt: skip
    assert sum(kept) >= 0.95 * len(kept)


def test_the_pipeline_samples_what_it_is_asked_for_about_half_of_the_time(pipe) -> None:
    from mmpo.shapes.making.evaluate import measure

    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    assert pipe.scheduler.config.prediction_type == "epsilon"
    row = measure(pipe, prompts("tune"), guidance=2.0, seeds=[0])
    assert 0.25 <= row["correct"] <= 0.65, row
    assert row["objects"] >= 0.6, row


def test_no_config_tells_where_a_part_was_loaded_from() -> None:
    for name in checkpoints.available():
        for file in checkpoints.checkpoint_path(name).rglob("*.json"):
            assert "_name_or_path" not in file.read_text(encoding="utf-8"), file
