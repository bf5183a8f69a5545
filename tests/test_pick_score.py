"""PickScore on tiny random weights, through the loading that published ones take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clips import make_clip, noise
from torchvision import transforms
from transformers import CLIPImageProcessorPil, CLIPModel

import rewards
from rewards.clip_files import clip_tokenizer
from rewards.views import ShortestSideCrop, normalised
from rewards.weights_hash import weights_identity

SIZES = [(512, 512), (1216, 832), (832, 1216), (640, 1536), (100, 80), (225, 224), (224, 224), (301, 987)]


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with CLIP's vocabulary."""
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize("size", SIZES)
def test_what_the_model_sees_is_what_the_reference_pipelines_make(size: tuple[int, int]) -> None:
    image = noise(size)
    seen = normalised(ShortestSideCrop()(image)[None])[0]
    assert torch.equal(seen, CLIPImageProcessorPil()(image, return_tensors="pt").pixel_values[0])
    bicubic = transforms.InterpolationMode.BICUBIC
    torchvision = transforms.Compose([transforms.Resize(224, interpolation=bicubic), transforms.CenterCrop(224)])
    assert np.array_equal(ShortestSideCrop(odd="round")(image).permute(1, 2, 0), np.asarray(torchvision(image)))


def test_scores_are_the_models_own_logits_whatever_the_batch(clip_folder: Path) -> None:
    images = [noise((300, 200), seed) for seed in range(5)]
    prompts = ["a cat", "a dog on a red table", "a cat", "it's a \"test\", isn't it?", "x"]
    model, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), clip_tokenizer()
    values = []
    for image, prompt in zip(images, prompts, strict=True):
        pixels = CLIPImageProcessorPil()(image, return_tensors="pt").pixel_values
        with torch.no_grad():
            values.append(model(**tokenizer(prompt, return_tensors="pt"), pixel_values=pixels).logits_per_image.item())
    for batch_size in (1, 2, 5):
        scores = rewards.load("pickscore", weights=str(clip_folder), batch_size=batch_size).score(images, prompts)
        np.testing.assert_allclose(scores.values, values, atol=1e-5)
        assert scores.errors == [None] * 5


def test_no_text_fails_and_a_long_one_is_cut_and_said(clip_folder: Path) -> None:
    reward = rewards.load("pickscore", weights=str(clip_folder))
    scores = reward.score([noise((64, 64))] * 3, ["a cat", " ", "word " * 2000])
    assert np.isnan(scores.values).tolist() == [False, True, False]
    assert scores.errors[1] is not None
    assert "empty" in scores.errors[1]
    assert scores.notes[2] is not None
    assert "2002 tokens, cut to the 77" in scores.notes[2]


def test_an_answer_stands_in_the_prompts_place(clip_folder: Path) -> None:
    reward, image = rewards.load("pickscore", weights=str(clip_folder)), noise((64, 64))
    answer = reward.score([rewards.Response("a cat", image)], ["what is in the picture?"])
    assert answer.values == reward.score([image], ["a cat"]).values


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights .*nothing.*: no such file or folder on this machine"):
        rewards.load("pickscore", weights=str(tmp_path / "nothing"))
    for lost in ("lost.safetensors", "./lost", "~/lost/model.pt"):
        with pytest.raises(ValueError, match=rf"weights {lost}: no such file or folder on this machine"):
            rewards.load("pickscore", weights=lost)
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(
        ValueError, match="rewards without this option take a hub name or folder of a transformers CLIP"
    ):
        rewards.load("pickscore", weights=str(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match="dtype: expected one of float32"):
        rewards.load("pickscore", dtype="fp8")
    with pytest.raises(ValueError, match="device: expected cpu, cuda or cuda:NUMBER, got 'gpu'"):
        rewards.load("pickscore", device="gpu")
    with pytest.raises(ValueError, match="batch_size: expected a whole number from 1 on, got 0"):
        rewards.load("pickscore", batch_size=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="device cuda: torch sees no GPU on this machine"):
        rewards.load("pickscore", weights=str(clip_folder), device="cuda")


def test_its_identity_is_that_of_weights_view_and_dtype(clip_folder: Path) -> None:
    reward = rewards.load("pickscore", weights=str(clip_folder))
    assert reward.identity == {
        "weights": weights_identity(str(clip_folder)),
        "dtype": "float32",
        "view": "ShortestSideCrop(size=224, odd='floor')",
    }
