"""CLIP score and HPSv2 on tiny random weights, by every way of loading; float32 in the last product; batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clips import ARCHITECTURE, make_clip, noise, open_clip_model
from torch.nn.functional import normalize
from transformers import CLIPImageProcessorPil, CLIPModel

import rewards
from rewards.clip_files import clip_tokenizer
from rewards.weights_hash import file_hash, weights_identity

IMAGES = [noise((40 + 7 * seed, 64 - 3 * seed), seed) for seed in range(16)]
PROMPTS = [f"a {word} on a {place}" for word in ("cat", "red dog", "Tom &amp; Jerry", "house") for place in "abcd"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers CLIP."""
    return make_clip(tmp_path_factory.mktemp("clip") / "folder", image_size=32, patch=8)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One open_clip CLIP as a file of each kind, and as a folder of open_clip's."""
    place = tmp_path_factory.mktemp("open_clip")
    state = open_clip_model().state_dict()
    torch.save({"state_dict": state}, place / "hps.pt")
    save_file(state, place / "bare.safetensors")
    (place / "local").mkdir()
    save_file(state, place / "local" / "open_clip_model.safetensors")
    (place / "local" / "open_clip_config.json").write_text(json.dumps({"model_cfg": ARCHITECTURE}))
    return place


def open_clip_cosines(resize_mode: str) -> np.ndarray:
    """By open_clip alone: its model, transform and tokenizer, one row at a time."""
    prepare = open_clip.image_transform(32, is_train=False, resize_mode=resize_mode, fill_color=0)
    model, tokenizer, values = open_clip_model(), open_clip.get_tokenizer("ViT-H-14"), []
    with torch.inference_mode():
        for image, prompt in zip(IMAGES, PROMPTS, strict=True):
            seen, said = model.encode_image(prepare(image)[None], True), model.encode_text(tokenizer([prompt]), True)
            values.append((seen * said).sum().item())
    return np.asarray(values, np.float32)


def own_cosines(folder: Path) -> np.ndarray:
    """By transformers alone, one row at a time."""
    model, tokenizer, values = CLIPModel.from_pretrained(folder).eval(), clip_tokenizer(), []
    prepare = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.inference_mode():
        for image, prompt in zip(IMAGES, PROMPTS, strict=True):
            out = model(**tokenizer(prompt, return_tensors="pt"), **prepare(image, return_tensors="pt"))
            values.append((out.image_embeds * out.text_embeds).sum().item())
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_every_scale_is_what_it_says(folder: Path, tmp_path: Path, sign: int) -> None:
    """Of a CLIP and of one with every image embedding turned round, so that there are cosines of both signs."""
    held = load_file(folder / "model.safetensors")
    held["visual_projection.weight"] *= sign
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    cosines = sign * own_cosines(folder)
    assert (sign * cosines < 0).all()
    expected = {"cos": cosines, "x100": np.exp(2.6592) * cosines, "clipscore": 2.5 * np.maximum(cosines, 0)}
    for scale, values in expected.items():
        scores = rewards.load("clip", weights=str(tmp_path), scale=scale).score(IMAGES, PROMPTS)
        np.testing.assert_allclose(scores.values, values, atol=2e-5 if scale == "x100" else 1e-6)
        assert scores.errors == [None] * 16


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "hps.pt", "architecture": ARCHITECTURE},
        {"weights": "bare.safetensors", "architecture": ARCHITECTURE},
        {"architecture": "local-dir:local", "backend": "open_clip"},
    ],
    ids=["pt", "safetensors", "local-dir"],
)
def test_open_clips_weights_score_as_open_clip_does(places: Path, options: dict[str, Any]) -> None:
    named = {key: str(places / value) if key == "weights" else value for key, value in options.items()}
    if "backend" in options:
        named["architecture"] = f"local-dir:{places / 'local'}"
    scores = rewards.load("clip", **named).score(IMAGES, PROMPTS)
    np.testing.assert_allclose(scores.values, open_clip_cosines("shortest"), atol=1e-6)


def test_an_open_clip_name_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `architecture: ViT-B-32, weights: FILE`, with a tiny architecture in the place of a published one."""
    (tmp_path / "Tiny-Test-CLIP.json").write_text(json.dumps(ARCHITECTURE))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    open_clip.add_model_config(tmp_path / "Tiny-Test-CLIP.json")
    torch.save(open_clip_model().state_dict(), tmp_path / "weights.pt")
    for backend in ("open_clip", "transformers"):
        options = {"architecture": "Tiny-Test-CLIP", "weights": str(tmp_path / "weights.pt"), "backend": backend}
        scores = rewards.load("clip", **options).score(IMAGES, PROMPTS)
        np.testing.assert_allclose(scores.values, open_clip_cosines("shortest"), atol=1e-6)


@pytest.mark.parametrize("name", ["hpsv2", "hpsv2.1"])
def test_hps_pads_the_longest_side_and_has_no_scale(places: Path, name: str) -> None:
    """open_clip's transform resizes 8-bit pixels, so it is met by `fast`; the exact one is close to it."""
    options = {"weights": str(places / "hps.pt"), "architecture": ARCHITECTURE}
    reward = rewards.load(name, **options)
    assert reward.name == name
    exact, theirs = reward.score(IMAGES, PROMPTS).values, open_clip_cosines("longest")
    fast = rewards.load(name, fast=True, **options).score(IMAGES, PROMPTS).values
    np.testing.assert_allclose(fast, theirs, atol=2e-3)
    np.testing.assert_allclose(exact, theirs, atol=2e-3)
    assert np.abs(exact - open_clip_cosines("shortest")).max() > 0.02


def test_hps_takes_a_converted_folder_and_keeps_open_clips_ids(places: Path, tmp_path: Path) -> None:
    file = rewards.load("hpsv2", weights=str(places / "hps.pt"), architecture=ARCHITECTURE)
    file.clip.model.save_pretrained(tmp_path)
    folder = rewards.load("hpsv2", weights=str(tmp_path))
    np.testing.assert_array_equal(file.score(IMAGES, PROMPTS).values, folder.score(IMAGES, PROMPTS).values)


@pytest.mark.parametrize("name", ["clip", "hpsv2", "pickscore"])
def test_scores_do_not_depend_on_batch_order_or_mates(folder: Path, name: str) -> None:
    options = {"weights": str(folder)} | ({"scale": "x100"} if name == "clip" else {})
    whole = rewards.load(name, batch_size=16, **options).score(IMAGES, PROMPTS).values
    assert np.ptp(whole) > 0.01
    for batch_size in (1, 3):
        values = rewards.load(name, batch_size=batch_size, **options).score(IMAGES, PROMPTS).values
        np.testing.assert_allclose(values, whole, atol=1e-5)
    order = np.random.default_rng(0).permutation(16)
    shuffled = rewards.load(name, batch_size=5, **options).score(
        [IMAGES[i] for i in order], [PROMPTS[i] for i in order]
    )
    np.testing.assert_allclose(shuffled.values, whole[order], atol=1e-5)
    alone = rewards.load(name, **options).score([IMAGES[4]] * 3, ["a " + "very " * 60 + "long prompt", PROMPTS[4], "x"])
    np.testing.assert_allclose(alone.values[1], whole[4], atol=1e-5)


def test_under_a_bfloat16_encoder_the_product_is_float32_and_the_scale_is_read_before(tmp_path: Path) -> None:
    """Against a float32 product of its features, exactly; one in bfloat16 is off by far more than is seen here."""
    make_clip(tmp_path, image_size=32, patch=8)
    held = load_file(tmp_path / "model.safetensors")
    held["logit_scale"] = torch.tensor(4.6052)
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reward = rewards.load("clip", weights=str(tmp_path), scale="x100", dtype="bfloat16")
    model = reward.clip.model
    assert next(model.parameters()).dtype == torch.bfloat16
    assert reward.clip.scale == pytest.approx(float(np.exp(np.float32(4.6052))))
    assert model.logit_scale.exp().item() == pytest.approx(98.86, abs=0.5)  # what reading it too late would give
    features: dict[str, torch.Tensor] = {}
    for kind in ("image", "text"):
        plain = getattr(model, f"get_{kind}_features")

        def kept(_kind: str = kind, _plain: Any = plain, **inputs: Any) -> Any:
            out = _plain(**inputs)
            features[_kind] = out.pooler_output
            return out

        setattr(model, f"get_{kind}_features", kept)
    values = torch.from_numpy(reward.score(IMAGES, PROMPTS).values)
    seen, said = features["image"], features["text"]
    assert seen.dtype == said.dtype == torch.bfloat16
    full = reward.clip.scale * (normalize(seen.float(), dim=-1) * normalize(said.float(), dim=-1)).sum(-1)
    assert torch.equal(values, full)
    half = reward.clip.scale * (normalize(seen, dim=-1) * normalize(said, dim=-1)).sum(-1).float()
    assert (half - full).abs().max() > 0.01


def test_an_answer_is_matched_with_its_image(folder: Path) -> None:
    reward = rewards.load("clip", weights=str(folder))
    answers = [rewards.Response(text, image) for text, image in zip(PROMPTS, IMAGES, strict=True)]
    scores = reward.score(answers, ["what is in the picture?"] * 16)
    np.testing.assert_array_equal(scores.values, reward.score(IMAGES, PROMPTS).values)


def test_a_processors_statistics_and_tokenizer_beside_the_weights_are_used(folder: Path, tmp_path: Path) -> None:
    model = CLIPModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    CLIPImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(tmp_path)
    clip_tokenizer().save_pretrained(tmp_path)
    ours = rewards.load("clip", weights=str(tmp_path)).score(IMAGES[:2], PROMPTS[:2]).values
    square = Image.new("RGB", (32, 32), (128, 64, 0))
    pixels = (torch.tensor([128, 64, 0]).view(1, 3, 1, 1) / 255 - 0.5) / 0.25 * torch.ones(1, 3, 32, 32)
    with torch.inference_mode():
        out = model.eval()(**clip_tokenizer()("a cat", return_tensors="pt"), pixel_values=pixels)
    value = rewards.load("clip", weights=str(tmp_path)).score([square], ["a cat"]).values[0]
    assert value == pytest.approx((out.image_embeds * out.text_embeds).sum().item(), abs=1e-6)
    assert np.abs(ours - rewards.load("clip", weights=str(folder)).score(IMAGES[:2], PROMPTS[:2]).values).max() > 1e-3


def test_identities_tell_weights_and_options_apart(folder: Path, places: Path) -> None:
    cosine = rewards.load("clip", weights=str(folder))
    assert cosine.identity["weights"] == weights_identity(str(folder))
    assert cosine.identity["scale"] == "cos"
    pt = {"weights": str(places / "hps.pt"), "architecture": ARCHITECTURE}
    tiny = rewards.load("hpsv2", **pt, sha256=file_hash(places / "hps.pt")).identity
    assert tiny["view"] == "LongestSidePad(size=32, antialias=True, fast=False)"
    local = rewards.load("clip", architecture=f"local-dir:{places / 'local'}", backend="open_clip").identity
    assert local["weights"] == weights_identity(str(places / "local"))
    others = [rewards.load("hpsv2", **pt, **more).identity for more in ({"fast": True}, {"dtype": "bfloat16"})]
    others += [rewards.load("clip", weights=str(folder), scale="x100").identity, cosine.identity, local, tiny]
    assert len({tuple(sorted(one.items())) for one in others}) == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": "x1000"}, "scale: expected one of cos, x100, clipscore, got 'x1000'"),
        ({"backend": "onnx"}, "backend: expected one of transformers, open_clip, got 'onnx'"),
        ({"weights": "hps.pt"}, "architecture: a state dict does not say what it is of"),
        ({"weights": "hps.pt", "architecture": "ViT-B-32"}, r"weights .*hps\.pt: not those of this model: missing "),
        ({"weights": "hps.pt", "architecture": ARCHITECTURE, "sha256": "ab" * 32}, r"sha256 is \w{64}, pinned is abab"),
        ({"weights": "local"}, "no CLIP of transformers found there"),
        ({"backend": "open_clip", "architecture": "ViT-H14"}, "open_clip knows no 'ViT-H14'; did you mean 'ViT-H-14'"),
        ({"backend": "open_clip", "architecture": "ViT-H-14"}, "architecture ViT-H-14 needs a file, or a tag of open_"),
        ({"backend": "open_clip", "architecture": "ViT-H-14", "weights": "hps.pt"}, "open_clip cannot load them"),
        ({"backend": "open_clip", "architecture": "local-dir:nowhere"}, "weights local-dir:nowhere: open_clip cannot"),
        ({"backend": "open_clip", "architecture": "local-dir:x", "weights": "y"}, "brings its weights, so leave them"),
        ({"backend": "open_clip", "weights": "hps.pt"}, "backend open_clip needs a name, such as ViT-H-14"),
        ({"backend": "open_clip", "revision": "main"}, "backend open_clip takes neither"),
    ],
)
def test_what_cannot_be_loaded(places: Path, options: dict[str, Any], says: str) -> None:
    weights = options.get("weights")
    if weights and (places / weights).exists() and options.get("architecture") != "ViT-H-14":
        options = {**options, "weights": str(places / weights)}
    with pytest.raises(ValueError, match=says):
        rewards.load("clip", **options)


def test_half_a_clip_and_foreign_words_are_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would fill missing weights with random numbers; scores would look like scores."""
    model = CLIPModel.from_pretrained(folder)
    model.text_model.save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match=r"not those of this model: missing logit_scale, .* more"):
        rewards.load("clip", weights=str(tmp_path / "text"))
    more = CLIPModel.from_pretrained(folder)
    more.vision_model.register_parameter("steps", torch.nn.Parameter(torch.zeros(2)))
    more.save_pretrained(tmp_path / "more")
    with pytest.raises(ValueError, match=r"more: not those of this model: unexpected vision_model\.steps$"):
        rewards.load("pickscore", weights=str(tmp_path / "more"))
    wide = json.loads((folder / "config.json").read_text())
    wide["projection_dim"] = 48
    model.save_pretrained(tmp_path / "wide")
    (tmp_path / "wide" / "config.json").write_text(json.dumps(wide))
    (tmp_path / "wide" / "junk").mkdir()
    (tmp_path / "wide" / "junk" / "config.json").write_text(json.dumps(wide))
    (tmp_path / "wide" / "junk" / "model.safetensors").write_bytes(b"junk")
    for place in ("wide", "wide/junk"):
        with pytest.raises(ValueError, match=rf"weights .*{place}: no CLIP of transformers found there"):
            rewards.load("pickscore", weights=str(tmp_path / place))
    with pytest.raises(ValueError, match=r"no tokenizer beside them, and CLIP's own has 49,408 .* model knows 500"):
        rewards.load("clip", weights=str(make_clip(tmp_path / "words", words=500)))
