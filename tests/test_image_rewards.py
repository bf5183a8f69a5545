"""Rewards of images alone: aesthetic, λ-harmonic, size as a JPEG; and answers in place of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clips import make_clip, noise
from torch import nn
from torch.nn.functional import normalize

import rewards
from mmpo.shapes.grammar import parse
from mmpo.shapes.render import render
from rewards.aesthetic_score import affine
from rewards.lambda_harmonic import harmonic
from rewards.staged import staged
from rewards.views import CLIP_MEAN, CLIP_STD

IMAGES = [noise((40 + 5 * seed, 60 - seed), seed) for seed in range(7)]


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers CLIP with embeddings of 32 numbers."""
    return make_clip(tmp_path_factory.mktemp("clip"), image_size=32, patch=8)


def published_head(width: int, seed: int = 0) -> nn.Sequential:
    """The layers of the published head, whose state is below "layers."; numbers that show in a score."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (1024, 128, 64, 16)
        parts: list[nn.Module] = []
        for before, after, dropout in zip((width, *sizes[:3]), sizes, (0.2, 0.2, 0.1, None), strict=True):
            parts += [nn.Linear(before, after), *([nn.Dropout(dropout)] if dropout else [])]
        head = nn.Sequential(*parts, nn.Linear(16, 1))
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.mul_(2.0)
    return head.eval()


def save_head(head: nn.Module, file: Path) -> Path:
    """As published: a `.pth` of tensors named layers.0.weight, layers.2.weight, ..."""
    torch.save({f"layers.{name}": value for name, value in head.state_dict().items()}, file)
    return file


def test_aesthetic_is_the_head_layer_by_layer_on_the_embedding_of_length_1(clip_folder: Path, tmp_path: Path) -> None:
    head = published_head(32)
    assert list(head.state_dict())[::2] == [f"{n}.weight" for n in (0, 2, 4, 6, 7)]
    file = save_head(head, tmp_path / "head.pth")
    reward = rewards.load("aesthetic", weights=str(clip_folder), head=str(file), batch_size=3)
    with torch.inference_mode():
        pixels = torch.stack([reward.view(image) for image in IMAGES])
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        raw = reward.clip.model.get_image_features(pixel_values=(pixels / 255 - mean) / std).pooler_output
        expected = head(normalize(raw, dim=-1))[:, 0].numpy()
    scores = reward.score(IMAGES, ["", "a cat", " ", "x", "y", "z", "?"])
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected) > 0.01
    assert scores.errors == [None] * 7
    other = save_head(published_head(32, seed=1), tmp_path / "other.pth")
    second = rewards.load("aesthetic", weights=str(clip_folder), head=str(other))
    assert second.identity["head"] != reward.identity["head"]
    assert second.identity["weights"] == reward.identity["weights"]


def test_a_head_that_is_not_one(clip_folder: Path, tmp_path: Path) -> None:
    state = {f"layers.{name}": value for name, value in published_head(32).state_dict().items()}
    with pytest.raises(ValueError, match=r"expected layers\.N\.weight and \.bias; missing layers\.4\.bias$"):
        affine({name: value for name, value in state.items() if name != "layers.4.bias"}, "x")
    with pytest.raises(ValueError, match=r"unexpected norm\.weight"):
        affine({**state, "norm.weight": torch.ones(1)}, "x")
    with pytest.raises(ValueError, match=r"layers\.4\.weight is \[64, 128\] after 1024 numbers"):
        affine({name: value for name, value in state.items() if not name.startswith("layers.2.")}, "x")
    with pytest.raises(ValueError, match="ends in 16 numbers; a score is one"):
        affine({name: value for name, value in state.items() if not name.startswith("layers.7.")}, "x")
    with pytest.raises(ValueError, match="found none"):
        affine({}, "x")
    wide = save_head(published_head(48), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"is for embeddings of 48 numbers, weights .* gives 32"):
        rewards.load("aesthetic", weights=str(clip_folder), head=str(wide))
    for head in ("nowhere.pth", "some/repository/head.pth"):
        with pytest.raises(
            ValueError, match=r"head.*sac\+logos\+ava1-l14-linearMSE\.pth of github\.com/christophschuhm"
        ):
            rewards.load("aesthetic", weights=str(clip_folder), head=head)


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    """A folder with three images of a subject, and something else."""
    for number in range(3):
        noise((30 + number, 44), 100 + number).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_lambda_harmonic_is_its_formula(clip_folder: Path, subject: Path) -> None:
    prompts = ["a photo of a dog", "a cat", "on a beach", "x", "y", "z", "w"]
    reward = rewards.load("lambda_harmonic", weights=str(clip_folder), references=str(subject), lam=0.4, batch_size=2)
    scores = reward.score(IMAGES, prompts)
    cosine = rewards.load("clip", weights=str(clip_folder))
    t2i = cosine.score(IMAGES, prompts).values
    clip = cosine.clip
    views = [cosine.view(Image.open(subject / f"{number}.png")) for number in range(3)]
    i2i = (clip.images([cosine.view(image) for image in IMAGES]) @ clip.images(views).T).mean(1).numpy()
    np.testing.assert_allclose(scores.parts["t2i"], t2i, atol=1e-6)
    np.testing.assert_allclose(scores.parts["i2i"], i2i, atol=1e-6)
    expected = [1 / (0.4 / ((a + 1) / 2) + 0.6 / ((b + 1) / 2)) for a, b in zip(i2i, t2i, strict=True)]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5)
    for lam, part in ((0, t2i), (1, i2i)):
        alone = rewards.load("lambda_harmonic", weights=str(clip_folder), references=str(subject), lam=lam)
        np.testing.assert_allclose(alone.score(IMAGES, prompts).values, (part + 1) / 2, rtol=1e-5)
    failed = reward.score(IMAGES[:2], [" ", "word " * 100])
    assert np.isnan(failed.values).tolist() == [True, False]
    assert "102 tokens, cut to the 77" in str(failed.notes[1])
    assert (
        reward.identity != rewards.load("lambda_harmonic", weights=str(clip_folder), references=str(subject)).identity
    )


def test_harmonic_means_by_hand() -> None:
    """λ = ½ of s = ¾ and ¼: 1 / (½ / ¾ + ½ / ¼) = 1 / (⅔ + 2) = ⅜; where one is 0 so is the mean."""
    values = harmonic(np.float32([0.5, -1, -1]), np.float32([-0.5, 1, -1]), 0.5)
    np.testing.assert_allclose(values, [0.375, 0, 0], atol=1e-7)
    assert harmonic(np.float32([-1]), np.float32([0.0]), 0.0) == [0.5]


def test_a_subject_that_is_not_there(clip_folder: Path, tmp_path: Path) -> None:
    weights = {"weights": str(clip_folder)}
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for options, says in (
        ({}, "references: name the folder"),
        ({"references": str(tmp_path / "none")}, "none: no such folder"),
        ({"references": str(tmp_path / "empty")}, "empty: no image is in it"),
        ({"references": str(tmp_path / "broken")}, r"broken/half\.png: "),
        ({"references": str(tmp_path), "lam": 1.5}, r"lam: expected a number from 0 to 1, got 1\.5"),
    ):
        with pytest.raises(ValueError, match=says):
            rewards.load("lambda_harmonic", **weights, **options)


def test_jpeg_size_counts_the_bytes_of_a_file_as_pil_writes_it(tmp_path: Path) -> None:
    pictures = [noise((64, 64)), Image.new("RGB", (64, 64), "red"), noise((64, 64)).convert("RGBA")]
    sizes = []
    for picture in pictures:
        picture.convert("RGB").save(tmp_path / "x.jpg", quality=95)
        sizes.append((tmp_path / "x.jpg").stat().st_size)
    assert sizes[0] > 3 * sizes[1]
    less, more = rewards.load("jpeg_size"), rewards.load("jpeg_size", more=True)
    np.testing.assert_allclose(less.score(pictures, [""] * 3).values, [-size / 1000 for size in sizes])
    np.testing.assert_allclose(more.score(pictures, [""] * 3).values, [size / 1000 for size in sizes])
    assert less.identity != more.identity
    with pytest.raises(ValueError, match="more: expected true or false, got 1"):
        rewards.load("jpeg_size", more=1)


def test_images_alone_cannot_score_answers(clip_folder: Path, subject: Path, tmp_path: Path) -> None:
    head = str(save_head(published_head(32), tmp_path / "head.pth"))
    loaded = [
        rewards.load("aesthetic", weights=str(clip_folder), head=head),
        rewards.load("lambda_harmonic", weights=str(clip_folder), references=str(subject)),
        rewards.load("jpeg_size"),
    ]
    for reward in loaded:
        scores = reward.score([rewards.Response("yes", IMAGES[0]), IMAGES[0]], ["is it?", "a cat"])
        assert np.isnan(scores.values).tolist() == [True, False]
        assert "scores images, not answers; rewards that take answers: clip, " in str(scores.errors[0])
        assert scores.errors[1] is None


def test_a_score_that_is_no_number_says_so(clip_folder: Path, subject: Path, tmp_path: Path) -> None:
    """As of a model that overflows in float16: never NaN without a word."""
    head = str(save_head(published_head(32), tmp_path / "head.pth"))
    for name, options in (
        ("pickscore", {}),
        ("aesthetic", {"head": head}),
        ("lambda_harmonic", {"references": str(subject)}),
    ):
        reward = rewards.load(name, weights=str(clip_folder), **options)
        reward.clip.model.visual_projection.weight.data.fill_(np.inf)
        scores = reward.score(IMAGES[:1], ["a cat"])
        assert np.isnan(scores.values).all()
        assert scores.errors == ["the model's score is nan; in float16 try bfloat16 or float32"], name


def test_an_image_of_several_answers_is_encoded_once(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = rewards.load("clip", weights=str(clip_folder))
    view, seen, images = reward.view(IMAGES[0]), [], reward.clip.images
    other = reward.view(IMAGES[1])
    monkeypatch.setattr(reward.clip, "images", lambda views: seen.append(len(views)) or images(views))
    together = reward.score_views([view, other, view], ["?"] * 3, ["a cat", "a dog", "a hat"]).values
    assert seen == [2]
    alone = [reward.score_views([view], ["?"], [text]).values[0] for text in ("a cat", "a hat")]
    np.testing.assert_allclose(together[[0, 2]], alone, atol=1e-6)


def test_the_verifier_holds_an_answer_against_its_image() -> None:
    """Whatever was asked, and also by the stages of the labelling engine."""
    image = render(parse("a red circle above a blue square"), 0)
    texts = ["A red circle above a blue square.", "a blue circle above a red square", "I see a red circle"]
    answers = [rewards.Response(text, image) for text in texts]
    reward = rewards.load("shapes")
    for scorer in (reward, staged(reward)):
        scores = scorer.score(answers, ["what do you see?"] * 3)
        assert scores.values[:2].tolist() == [1.0, 0.0]
        assert np.isnan(scores.values[2])
        assert "not in the shapes grammar" in str(scores.errors[2])
    views = staged(reward)
    again = views.score_views([views.view(image)] * 3, ["what?"] * 3, texts)
    np.testing.assert_array_equal(again.values, scores.values)


def test_transparent_pictures_are_seen_on_white(clip_folder: Path) -> None:
    """As labels see them, which decode files; not as whatever colour stands below the transparency."""
    glass = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    white, red = Image.new("RGB", (40, 40), "white"), Image.new("RGB", (40, 40), (200, 0, 0))
    for reward in (rewards.load("clip", weights=str(clip_folder)), rewards.load("jpeg_size"), rewards.load("random")):
        seen = [reward.score([image], ["a cat"]).values[0] for image in (glass, white, red)]
        assert seen[0] == seen[1] != seen[2]


def test_random_labels_tell_answers_apart() -> None:
    reward, image = rewards.load("random"), IMAGES[0]
    answers = [rewards.Response(text, image) for text in ("yes", "no", "yes")]
    one, two, three = reward.score(answers, ["is it?"] * 3).values
    assert one == three != two
    assert one != reward.score([image], ["is it?"]).values[0]
    assert one != reward.score(answers[:1], ["is it not?"]).values[0]
    assert one != rewards.load("random", seed=1).score(answers[:1], ["is it?"]).values[0]
    assert staged(reward).identity == reward.identity == {"seed": "0"}
