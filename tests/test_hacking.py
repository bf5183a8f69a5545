"""Alarms on synthetic looks: over-saturated, blurred, noisy, collapsed, gamed; and quiet where nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmpo.data.image_statistics import clipped, diversity, saturation, sharpness, thumbnail
from mmpo.training.hacking import Look, alarms, begun
from mmpo.validation_recipe import Alarms

PROMPTS, SAMPLES = 12, 2
Change = Callable[[np.ndarray], np.ndarray]


def picture(prompt: int, number: int) -> np.ndarray:
    """A muted scene: a soft rectangle whose place and colour are the sample's own."""
    random = np.random.default_rng((prompt, number))
    pixels = np.full((48, 48, 3), 130.0) + random.normal(0, 4, (48, 48, 3))
    top, left = random.integers(0, 28, 2)
    pixels[top : top + 20, left : left + 20] = random.uniform(70, 190, 3)
    return np.asarray(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


def look(step: int = 0, change: Change = lambda pixels: pixels, **rewards: list[float]) -> Look:
    """What the statistics say of all pictures, changed."""
    places = [(prompt, number) for prompt in range(PROMPTS) for number in range(SAMPLES)]
    pixels = [change(picture(*place)) for place in places]
    same, across = diversity([thumbnail(one) for one in pixels], [prompt for prompt, _ in places])
    images = {
        "saturation": [saturation(one) for one in pixels],
        "clipped": [clipped(one) for one in pixels],
        "sharpness": [sharpness(one) for one in pixels],
        "diversity": same.tolist(),
        "diversity_across": across.tolist(),
    }
    return Look(step, "same", [f"prompt {prompt}" for prompt, _ in places], rewards, images)


def vivid(pixels: np.ndarray) -> np.ndarray:
    """Colours driven apart until they clip."""
    wide = pixels.astype(float)
    return (128 + 8 * (wide - wide.mean(-1, keepdims=True)) + (wide - 128)).clip(0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)))


def noisy(pixels: np.ndarray) -> np.ndarray:
    return (pixels + np.random.default_rng(0).normal(0, 30, pixels.shape)).clip(0, 255).astype(np.uint8)


def collapsed(pixels: np.ndarray) -> np.ndarray:
    return (0.15 * pixels + 0.85 * picture(99, 0)).astype(np.uint8)


def brighter(pixels: np.ndarray) -> np.ndarray:
    """A harmless change."""
    return (pixels.astype(float) * 1.05 + 3).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (vivid, {"saturation": "saturation rose from"}),
        (blurred, {"sharpness": "sharpness fell from"}),
        (noisy, {"sharpness": "sharpness rose from"}),
        (
            collapsed,
            {"diversity": "between samples of one prompt fell from", "diversity_across": "different prompts fell from"},
        ),
        (brighter, {}),
    ],
)
def test_each_kind_of_gaming_sets_off_its_alarm(change: Change, expected: dict[str, str]) -> None:
    found = alarms(look(), look(10, change), Alarms())
    assert set(expected) <= set(found)
    assert all(words in found[what] for what, words in expected.items())
    if not expected:
        assert found == {}


def test_clipped_colours_are_an_alarm_of_their_own() -> None:
    found = alarms(look(), look(10, lambda pixels: np.where(pixels > 128, 255, 0).astype(np.uint8)), Alarms())
    assert "ends of the range rose from" in found["clipped"]


def test_thresholds_are_options_and_null_is_off() -> None:
    slightly = look(10, lambda pixels: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.6))))
    assert alarms(look(), slightly, Alarms(sharpness_factor=1.05))
    off = Alarms(saturation_rise=None, clipped_rise=None, sharpness_factor=None, diversity_fall=None, reward_fall=None)
    for change in (vivid, blurred, noisy, collapsed):
        assert alarms(look(other=[1.0] * 24), look(10, change, other=[0.0] * 24), off) == {}


def test_a_few_odd_samples_are_no_alarm() -> None:
    """The mean crosses the threshold by four samples of one prompt; its interval over prompts does not."""
    first = look()
    odd = dict(first.images) | {"clipped": [1.0, 1.0, 1.0, 1.0] + [0.0] * 20}
    now = replace(first, step=5, images=odd)
    assert np.mean(odd["clipped"]) > Alarms().clipped_rise  # type: ignore[operator]
    clusters = ["one"] * 4 + list(first.clusters[4:])
    assert alarms(replace(first, clusters=clusters), replace(now, clusters=clusters), Alarms()) == {}


def test_with_few_prompts_nothing_speaks() -> None:
    first, now = look(), look(10, vivid)
    few = [name if number < 18 else "prompt 8" for number, name in enumerate(first.clusters)]
    assert alarms(replace(first, clusters=few), replace(now, clusters=few), Alarms()) == {}


def scores(mean: float, seed: int = 0) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(0, 1, PROMPTS * SAMPLES)).tolist()


def gamed(ours: float, other: float, trained: tuple[str, ...] = ("ours",)) -> dict[str, str]:
    """Alarms where our reward and another one moved by so much."""
    first = replace(look(ours=scores(0), other=scores(0, 1)), trained=trained)
    now = replace(look(9, ours=scores(ours, 0), other=scores(other, 1)), trained=trained)
    moved = {n: (np.asarray(v) + np.random.default_rng(5).normal(0, 0.1, 24)).tolist() for n, v in now.rewards.items()}
    return alarms(first, replace(now, rewards=moved), Alarms())


def test_a_reward_that_is_not_trained_on_falls_while_ours_rises() -> None:
    sentence = gamed(1.0, -0.5)["reward other"]
    assert "other, which is not trained on, fell from" in sentence
    assert "while the trained ours rose from" in sentence


def test_no_reward_alarm_where_both_rise_or_both_fall_or_the_fall_is_small() -> None:
    assert gamed(1.0, 0.5) == {}
    assert gamed(-1.0, -0.5) == {}
    assert gamed(1.0, -0.05) == {}  # sure, and less than a fifth of a standard deviation
    assert "reward other" in gamed(0.0, -0.5, trained=())  # nobody knows what the data were made by


def test_missing_scores_are_left_out() -> None:
    first = look(other=[float("nan")] * 24)
    assert alarms(first, look(9, other=[1.0] * 24), Alarms()) == {}
    back = Look.of(json.loads(json.dumps(first.as_dict())))
    assert np.isnan(back.rewards["other"]).all()
    assert back.images["saturation"] == first.images["saturation"]


@pytest.mark.parametrize(
    ("changes", "wanted", "speaks"),
    [
        ([vivid], 1, True),
        ([vivid], 2, False),
        ([vivid, vivid], 2, True),
        ([vivid, vivid, vivid], 2, False),  # it spoke before
        ([vivid, brighter, vivid], 2, False),
        ([vivid, vivid, brighter, vivid, vivid], 2, True),  # it is back
    ],
)
def test_an_alarm_speaks_once_after_so_many_looks(changes: list[Change], wanted: int, speaks: bool) -> None:
    looks = [look(), *(look(step, change) for step, change in enumerate(changes, 1))]
    assert ("saturation" in begun(looks, Alarms(evaluations=wanted))) == speaks
