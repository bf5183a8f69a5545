"""The step-aware reward: equal to its CLIP at the start, its formulas, its files, its gradient."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import transforms
from transformers import CLIPConfig, CLIPModel

import rewards
from rewards.pixel_views import shortest_side_crop
from rewards.step_aware import StepAware
from rewards.step_aware_files import FILE, load_step_aware, save_step_aware
from rewards.step_aware_model import StepAwareClip, timestep_waves
from rewards.views import normalised

TIMES = (0, 1, 251, 500.5, 999)
PROMPTS = ["a cat", "a dog on a red table", "a cat", "x", "a house"]


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with biases and norms that are not the identity, and CLIP's vocabulary."""
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**tower, "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    vision = {**tower, "image_size": 64, "patch_size": 16}
    model = CLIPModel(CLIPConfig(projection_dim=16, text_config=text, vision_config=vision))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value.add_(0.3 * torch.randn(value.shape))
    place = tmp_path_factory.mktemp("clip")
    model.save_pretrained(place)
    return place


def moved(folder: Path, seed: int = 1) -> StepAwareClip:
    """The step-aware CLIP with random weights where it starts with zeros."""
    model = load_step_aware(str(folder)).model.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in [*model.time, *model.layers, model.last]:
            for value in part.parameters():
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_the_start_it_is_its_clip_bit_for_bit_also_when_saved(
    folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    clip = CLIPModel.from_pretrained(folder).eval().to(dtype)
    pixels = torch.randn(3, 3, 64, 64).to(dtype)
    first = load_step_aware(str(folder)).model
    save_step_aware(first, tmp_path / "saved")
    for model in (first, load_step_aware(str(tmp_path / "saved")).model):
        for t in TIMES:
            with torch.no_grad():
                seen = model.to(dtype).get_image_features(pixels, torch.full((3,), t))
                assert torch.equal(seen, clip.get_image_features(pixel_values=pixels).pooler_output)


def test_at_the_start_the_reward_scores_as_pickscore(folder: Path) -> None:
    images = [noise((90, 70), seed) for seed in range(5)]
    plain = rewards.load("pickscore", weights=str(folder)).score(images, PROMPTS)
    for t in TIMES:
        timed = rewards.load("step_aware", weights=str(folder), timestep=t)
        assert np.array_equal(timed.score(images, PROMPTS).values, plain.values)


def naive(model: StepAwareClip, pixels: Tensor, t: float) -> Tensor:
    """The formulas of SPO's step-aware model for one picture, in float64 and without torch's modules."""
    w = {name: value.double() for name, value in model.state_dict().items()}
    vision = model.config.vision_config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + vision.layer_norm_eps).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def silu(x: Tensor) -> Tensor:
        return x / (1 + (-x).exp())

    waves = timestep_waves(torch.tensor([t]))[0].double()  # float32, held by the next test
    said = silu(linear(silu(linear(waves, "time.0")), "time.1"))
    at = "clip.vision_model."
    side = vision.patch_size
    patches = [pixels[:, y : y + side, x : x + side].flatten() for y in range(0, 64, side) for x in range(0, 64, side)]
    tokens = torch.stack(patches).double() @ w[f"{at}embeddings.patch_embedding.weight"].flatten(1).T
    x = torch.cat([w[f"{at}embeddings.class_embedding"][None], tokens])
    x = norm(x + w[f"{at}embeddings.position_embedding.weight"], f"{at}pre_layrnorm")
    width, heads = vision.hidden_size, vision.num_attention_heads
    for number in range(vision.num_hidden_layers):
        part = linear(said, f"layers.{number}")
        s1, b1, g1, s2, b2, g2 = (part[k * width : (k + 1) * width] for k in range(6))
        layer = f"{at}encoder.layers.{number}."
        inner = norm(x, f"{layer}layer_norm1") * (1 + b1) + s1
        q, k, v = (linear(inner, f"{layer}self_attn.{name}_proj").split(width // heads, 1) for name in "qkv")
        mixed = [(a @ b.T / (width // heads) ** 0.5).softmax(-1) @ c for a, b, c in zip(q, k, v, strict=True)]
        x = x + g1 * linear(torch.cat(mixed, 1), f"{layer}self_attn.out_proj")
        inner = linear(norm(x, f"{layer}layer_norm2") * (1 + b2) + s2, f"{layer}mlp.fc1")
        x = x + g2 * linear(inner / (1 + (-1.702 * inner).exp()), f"{layer}mlp.fc2")
    shift, scale = linear(said, "last").split(width)
    return (norm(x[0], f"{at}post_layernorm") * (1 + scale) + shift) @ w["clip.visual_projection.weight"].T


@pytest.mark.parametrize("t", [0, 500.5, 951])
def test_a_naive_transcription_of_the_formulas_agrees(folder: Path, t: float) -> None:
    model = moved(folder).double()
    pixels = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        seen = model.get_image_features(pixels, torch.tensor([t]))[0]
    torch.testing.assert_close(seen, naive(model, pixels[0], t), rtol=0, atol=1e-10)


def test_the_timestep_is_cosines_then_sines_from_fast_to_slow() -> None:
    times = [0, 1, 500.5, 999]
    angles = [[t * 10000 ** (-i / 128) for i in range(128)] for t in times]
    waves = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    assert np.abs(timestep_waves(torch.tensor(times)).numpy() - waves).max() < 2e-4  # float32 of angles up to 999


def test_scores_depend_on_the_timestep_and_not_on_batch_or_batch_mates(folder: Path, tmp_path: Path) -> None:
    save_step_aware(moved(folder), tmp_path / "moved")
    images, times = [noise((90, 70), seed) for seed in range(5)], [0, 251, 951, 30.5, 951]
    one = rewards.load("step_aware", weights=str(tmp_path / "moved"), batch_size=1)
    many = rewards.load("step_aware", weights=str(tmp_path / "moved"), batch_size=3)
    assert isinstance(one, StepAware)
    assert isinstance(many, StepAware)
    values = one.score(images, PROMPTS, times).values
    np.testing.assert_allclose(many.score(images, PROMPTS, torch.tensor(times)).values, values, atol=1e-5)
    order = [3, 0, 4, 2, 1]
    again = many.score([images[i] for i in order], [PROMPTS[i] for i in order], [times[i] for i in order])
    np.testing.assert_allclose(again.values, values[order], atol=1e-5)
    assert np.abs(one.score(images, PROMPTS).values - values)[1:].min() > 1e-3
    late = rewards.load("step_aware", weights=str(tmp_path / "moved"), timestep=951).score(images, PROMPTS).values
    np.testing.assert_allclose(late[[2, 4]], values[[2, 4]], atol=1e-5)


def test_an_empty_text_fails_alone_and_the_others_keep_their_timesteps(folder: Path, tmp_path: Path) -> None:
    save_step_aware(moved(folder), tmp_path / "moved")
    reward = rewards.load("step_aware", weights=str(tmp_path / "moved"))
    assert isinstance(reward, StepAware)
    images, times = [noise((64, 64), seed) for seed in range(3)], [0, 251, 951]
    scores = reward.score(images, ["a cat", " ", "a cat"], times)
    assert np.isnan(scores.values).tolist() == [False, True, False]
    assert scores.values[2] == pytest.approx(reward.score(images[2:], ["a cat"], [951]).values[0], abs=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (70, 131), (40, 200), (512, 300)])
def test_pixels_are_resized_as_spo_resizes_them(size: tuple[int, int]) -> None:
    """Its steps: bicubic without antialiasing by the shorter side, torchvision's centre crop, then the cut."""
    pixels = 2 * torch.rand(2, 3, *size) - 1
    scale = 64 / min(size)
    scaled = interpolate(
        pixels, size=[int(side * scale + 0.5) for side in size], mode="bicubic", align_corners=False, antialias=False
    )
    expected = (transforms.CenterCrop(64)(scaled) / 2 + 0.5).clamp(0, 1)
    assert torch.equal(shortest_side_crop(pixels, 64), expected)
    if size == (64, 64):
        assert torch.equal(expected, pixels / 2 + 0.5)


def test_pixels_score_as_the_model_says_and_pass_a_gradient(folder: Path, tmp_path: Path) -> None:
    save_step_aware(moved(folder), tmp_path / "moved")
    reward = rewards.load("step_aware", weights=str(tmp_path / "moved"))
    assert isinstance(reward, StepAware)
    pixels = (2 * torch.rand(2, 3, 80, 64) - 1).requires_grad_()
    times = torch.tensor([30.0, 951.0])
    scores = reward.score_pixels(pixels, ["a cat", "a dog"], times)
    scores.sum().backward()
    assert pixels.grad is not None
    assert all(row.abs().max() > 0 for row in pixels.grad)
    seen = reward.clip.model.get_image_features(normalised(shortest_side_crop(pixels.detach(), 64)), times)
    said = reward.clip.texts(["a cat", "a dog"])[0]
    expected = reward.clip.scale * torch.cosine_similarity(seen, said)
    torch.testing.assert_close(scores.detach(), expected, rtol=0, atol=1e-5)
    square = noise((64, 64))
    stored = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 127.5 - 1
    drawn = reward.score_pixels(stored, ["a cat"], [951])
    np.testing.assert_allclose(drawn, reward.score([square], ["a cat"], [951]).values, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gradient_reaches_every_part_and_checkpointing_does_not_change_it(folder: Path, checkpointing: bool) -> None:
    """At the start the timestep's own weights stand behind zeros; after one step of the others they move too."""
    torch.manual_seed(0)
    pixels, times = torch.randn(2, 3, 64, 64), torch.tensor([3.0, 700.0])
    start, model = load_step_aware(str(folder)).model.train().requires_grad_(True), moved(folder).train()
    if checkpointing:
        start.gradient_checkpointing_enable()
        model.gradient_checkpointing_enable()
    start.get_image_features(pixels, times).square().sum().backward()
    assert all(part.weight.grad.abs().max() > 0 for part in [*start.layers, start.last])
    assert not any(part.weight.grad.any() for part in start.time)
    model.get_image_features(pixels, times).square().sum().backward()
    plain = moved(folder).train()
    plain.get_image_features(pixels, times).square().sum().backward()
    for (name, value), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if "vision" in name or not name.startswith("clip."):
            assert value.grad is not None
            assert value.grad.abs().max() > 0
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_a_folder_and_spos_own_files_give_the_same_model(folder: Path, tmp_path: Path) -> None:
    """SPO's training saves a wrapper's state dict, from a transformers that kept position_ids in it."""
    model = moved(folder)
    save_step_aware(model, tmp_path / "ours")
    state = load_file(tmp_path / "ours" / FILE)
    assert "vision_model.encoder.layers.1.adaLN_modulation.1.bias" in state
    assert "vision_model.adaLN_modulation.1.weight" in state
    assert "t_embedder.mlp.2.weight" in state
    positions = {"model.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    torch.save({**{f"model.{name}": value for name, value in state.items()}, **positions}, tmp_path / "spo.bin")
    pixels, times = torch.randn(2, 3, 64, 64), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        expected = model.get_image_features(pixels, times)
        for weights in (tmp_path / "ours", tmp_path / "spo.bin"):
            loaded = load_step_aware(str(weights), config=str(folder)).model
            assert torch.equal(loaded.get_image_features(pixels, times), expected)


def test_what_scores_depend_on_is_said(folder: Path, tmp_path: Path) -> None:
    save_step_aware(moved(folder), tmp_path / "ours")
    at = [StepAware(str(tmp_path / "ours"), timestep=t).identity for t in (0, 951)]
    assert at[0] != at[1]
    assert at[0]["weights"].startswith("sha256:")
    assert "config" not in at[0]
    alone = StepAware(str(tmp_path / "ours" / FILE), config=str(folder)).identity
    assert alone["config"].startswith("sha256:")
    save_step_aware(moved(folder, seed=2), tmp_path / "ours")
    assert StepAware(str(tmp_path / "ours")).identity["weights"] != at[0]["weights"]


def test_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    save_step_aware(moved(folder), tmp_path / "ours")
    state = load_file(tmp_path / "ours" / FILE)
    gone = "vision_model.adaLN_modulation.1.bias"
    save_file({name: value for name, value in state.items() if name != gone}, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=rf"1 parameters missing \({gone}\), 0 unknown"):
        load_step_aware(str(tmp_path / "less.safetensors"), config=str(folder))
    save_file({**state, gone: torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"size mismatch for last\.bias"):
        load_step_aware(str(tmp_path / "other.safetensors"), config=str(folder))
    with pytest.raises(ValueError, match=r"config .*: no config\.json"):
        load_step_aware(str(tmp_path / "other.safetensors"), config=str(tmp_path))
    with pytest.raises(ValueError, match=r"no CLIP .*; nor is there step_aware\.safetensors"):
        load_step_aware(str(tmp_path))
    with pytest.raises(ValueError, match="no CLIP of transformers found there"):
        rewards.load("pickscore", weights=str(tmp_path / "ours"))  # half of a step-aware model is none


def test_timesteps_that_are_none(folder: Path) -> None:
    reward = rewards.load("step_aware", weights=str(folder))
    assert isinstance(reward, StepAware)
    with pytest.raises(ValueError, match="timesteps: expected 2, one per row"):
        reward.score([noise((64, 64))] * 2, ["a", "b"], [1])
    with pytest.raises(ValueError, match="timesteps: expected numbers from 0 up, got -1"):
        rewards.load("step_aware", weights=str(folder), timestep=-1)
    with pytest.raises(ValueError, match="pixels: expected"):
        reward.score_pixels(torch.zeros(1, 64, 64, 3), ["a"], [1])
