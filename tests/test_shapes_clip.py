"""The shipped tiny CLIP: an ordinary frozen folder that reads the world; and the parts of its making."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

import rewards
from mmpo.shapes import checkpoints
from mmpo.shapes.corruption import CHANGES, corrupted
from mmpo.shapes.defects import DEFECTS
from mmpo.shapes.grammar import AXES, Item, Scene, captions, parse
from mmpo.shapes.making import clip, clip_data
from mmpo.shapes.prompts import scenes, split_of
from mmpo.shapes.render import render
from mmpo.shapes.verifier import verify

FOLDER = checkpoints.checkpoint_path("clip")
Score = Callable[[list[Image.Image], list[str]], np.ndarray]


@pytest.fixture(scope="module")
def score() -> Score:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(FOLDER).eval(), CLIPProcessor.from_pretrained(FOLDER)

    @torch.no_grad()
    def values(images: list[Image.Image], texts: list[str]) -> np.ndarray:
        output = model(**processor(images=images, text=texts, return_tensors="pt", padding=True))
        return (model.logit_scale.exp() * (output.image_embeds * output.text_embeds).sum(-1)).numpy()

    return values


def test_the_folder_is_frozen_small_and_safe() -> None:
    checkpoints.verify_checkpoint("clip")
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4e6
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        assert (FOLDER / name).read_bytes() == (checkpoints.checkpoint_path("sd") / "tokenizer" / name).read_bytes()
    assert json.loads((FOLDER / "config.json").read_text())["vision_config"]["image_size"] == 32


def test_the_step_aware_reward_is_frozen_and_small() -> None:
    folder = checkpoints.checkpoint_path("step_aware")
    checkpoints.verify_checkpoint("step_aware")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5e6
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (FOLDER / name).read_bytes()


def test_the_step_aware_reward_knows_the_timestep() -> None:
    reward = rewards.load("step_aware", weights="shapes/step_aware")
    scene = scenes("train")[0]
    image = render(scene, seed=0)
    at = [reward.score([image], [captions(scene)[0]], timesteps=[t]).values[0] for t in (0, 501)]
    assert at[0] != at[1]


def test_the_processor_changes_no_pixel_and_pads_to_16() -> None:
    from transformers import CLIPProcessor

    processor = CLIPProcessor.from_pretrained(FOLDER)
    image = render(scenes("tune")[0], 3)
    given = processor(images=[image], text=["a red circle above a blue square"], padding="max_length",
                      return_tensors="pt")  # fmt: skip
    pixels = clip.pixels(torch.from_numpy(np.asarray(image).copy())[None])
    torch.testing.assert_close(given.pixel_values, pixels, rtol=0, atol=1e-6)
    assert given.input_ids.tolist() == [[583, 320, 559, 535, 515, 320, 525, 568, *[584] * 8]]


def test_a_score_does_not_depend_on_its_padding_or_batch(score: Score) -> None:
    drawn = scenes("tune")[:8]
    images, texts = [render(scene, 1) for scene in drawn], [captions(scene)[k % 4] for k, scene in enumerate(drawn)]
    alone = [score([image], [text])[0] for image, text in zip(images, texts, strict=True)]
    assert score(images, texts) == pytest.approx(alone, abs=1e-4)


def test_the_right_caption_beats_a_changed_one(score: Score) -> None:
    rng = random.Random(0)
    drawn = [rng.choice(scenes("tune")) for _ in range(200)]
    images = [render(scene, seed) for seed, scene in enumerate(drawn)]
    forms = [rng.randrange(4) for _ in drawn]
    right = score(images, [captions(scene)[form] for scene, form in zip(drawn, forms, strict=True)])
    wrong = score(images, [captions(corrupted(scene, rng))[form] for scene, form in zip(drawn, forms, strict=True)])
    assert (right > wrong).mean() >= 0.9


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_spoilt_picture_scores_lower(score: Score, defect: str) -> None:
    drawn = scenes("tune")[:60]
    texts = [captions(scene)[seed % 4] for seed, scene in enumerate(drawn)]
    clean = score([render(scene, seed) for seed, scene in enumerate(drawn)], texts)
    spoilt = score([render(scene, 100 + seed, defect=defect) for seed, scene in enumerate(drawn)], texts)
    assert (clean > spoilt).mean() >= 0.9


def test_a_change_changes_one_thing() -> None:
    rng, scene = random.Random(0), parse("a red circle above a blue square")
    assert corrupted(scene, rng, "mirror") == Scene(Item("blue", "square"), Item("red", "circle"), "vertical")
    assert corrupted(scene, rng, "axis") == Scene(scene.first, scene.second, AXES[1])
    for _ in range(30):
        coloured, shaped = (corrupted(scene, rng, change) for change in ("colour", "shape"))
        assert [coloured.first.shape, coloured.second.shape, coloured.axis] == ["circle", "square", "vertical"]
        assert (coloured.first.colour != "red") + (coloured.second.colour != "blue") == 1
        assert [shaped.first.colour, shaped.second.colour, shaped.axis] == ["red", "blue", "vertical"]
        assert (shaped.first.shape != "circle") + (shaped.second.shape != "square") == 1
    with pytest.raises(ValueError, match="'size'; use one of mirror, axis, colour, shape"):
        corrupted(scene, rng, "size")
    assert {corrupted(scene, rng).key for _ in range(99)} > {corrupted(scene, rng, name).key for name in CHANGES[:2]}


def test_neighbours_are_train_scenes_that_differ_in_one_thing() -> None:
    train, near = scenes("train"), clip_data.neighbours()
    assert len(near) == len(train)
    for scene, rows in zip(train, near, strict=True):
        assert rows
        for row in rows:
            other = train[row]
            assert split_of(other) == "train"
            objects = {scene.first, scene.second} ^ {other.first, other.second}
            assert (scene.axis != other.axis) + len(objects) // 2 + (other == scene.mirror) == 1


def test_softened_pictures_still_show_their_scene() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(checkpoints.checkpoint_path("sd") / "vae").eval()
    drawn = scenes("train")[:60]
    images = np.stack([np.asarray(render(scene, 8)) for scene in drawn])
    soft = clip_data.soften(vae, images, seed=3)
    assert (soft == clip_data.soften(vae, images, seed=3)).all()
    kept = (soft == images).all((1, 2, 3))
    assert 0.15 <= kept.mean() <= 0.45
    moved = np.abs(soft[~kept].astype(float) - images[~kept]).mean((1, 2, 3))
    assert 0.5 < moved.min() <= moved.max() < 30
    right = [
        verify(Image.fromarray(image), captions(scene)[0]).correct for image, scene in zip(soft, drawn, strict=True)
    ]
    assert sum(right) >= 0.9 * len(right)


def test_a_batch_holds_scenes_and_their_neighbours() -> None:
    near = clip_data.neighbours()
    empty = torch.zeros(len(near), 5, 0)
    drawn = clip_data.draw(clip_data.Pool(empty, empty, empty), near, 40, torch.Generator().manual_seed(0))
    one, two = drawn.scene.chunk(2)
    assert all(b in near[a] for a, b in zip(one.tolist(), two.tolist(), strict=True))
    assert len(set(one.tolist())) > 30
    assert (drawn.clean.unique().tolist(), drawn.spoilt.unique().tolist()) == ([0, 1, 2, 3, 4],) * 2
    assert drawn.caption.unique().tolist() == [0, 1, 2, 3]


def test_the_contrast_is_a_cross_entropy_in_both_directions() -> None:
    """Against a loop over the candidates of each row; entries 0 and 2 are of one scene."""
    generator = torch.Generator().manual_seed(0)
    clean, spoilt, texts = (clip.normalize(torch.randn(3, 5, generator=generator).double(), dim=-1) for _ in range(3))
    scene, scale = [4, 7, 4], 10.0
    expected = 0.0
    for row in range(3):
        others = [k for k in range(3) if k == row or scene[k] != scene[row]]
        pictures = [*(texts[row] @ clean[k] for k in others), *(texts[row] @ picture for picture in spoilt)]
        captioned = [texts[k] @ clean[row] for k in others]
        for candidates in (pictures, captioned):
            logits = scale * torch.stack(candidates)
            expected += float(logits.logsumexp(0) - scale * (texts[row] @ clean[row])) / 3
    value = clip.contrast(torch.tensor(scale), clean, spoilt, texts, torch.tensor(scene))
    assert float(value) == pytest.approx(expected, rel=1e-9)
