"""Saturation, clipping, sharpness and diversity of synthetic pictures, against what their definitions give."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmpo.data.image_statistics import clipped, diversity, saturation, sharpness, thumbnail


def noise(seed: int, low: int = 0, high: int = 256, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (size, size, 3)).astype(np.uint8)


def scene(blur: float = 0.0) -> np.ndarray:
    """Squares on grey, blurred."""
    pixels = np.full((64, 64, 3), 120, np.uint8)
    pixels[8:30, 10:40], pixels[40:60, 30:50] = (200, 60, 40), (40, 60, 200)
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur)))


def test_saturation_is_that_of_the_standard_library() -> None:
    pixels = noise(0, size=8)
    expected = [colorsys.rgb_to_hsv(*(value / 255 for value in pixel))[1] for pixel in pixels.reshape(-1, 3).tolist()]
    assert saturation(pixels) == pytest.approx(np.mean(expected), abs=1e-12)
    assert saturation(np.zeros((4, 4, 3), np.uint8)) == 0  # black has no colour, and divides by 0


def test_clipping_counts_channel_values_at_the_ends() -> None:
    pixels = np.full((2, 2, 3), 128, np.uint8)
    assert clipped(pixels) == 0
    pixels[0, 0] = (255, 0, 254)
    pixels[0, 1] = (2, 253, 1)
    assert clipped(pixels) == pytest.approx(4 / 12)


def test_sharpness_is_about_one_for_noise_falls_with_blur_and_ignores_contrast() -> None:
    grey = np.repeat(noise(1, size=128)[:, :, :1], 3, axis=2)
    assert sharpness(grey) == pytest.approx(1.0, abs=0.05)
    rows = [sharpness(scene(blur)) for blur in (0.0, 1.0, 3.0)]
    assert rows[0] > 2 * rows[1] > 4 * rows[2] > 0
    half = (scene().astype(float) / 2 + 30).astype(np.uint8)
    assert sharpness(half) == pytest.approx(sharpness(scene()), rel=0.02)
    assert sharpness(np.full((16, 16, 3), 77, np.uint8)) == 0


@pytest.mark.parametrize("size", [(64, 64), (40, 50), (16, 7)])
def test_a_thumbnail_is_means_of_cells(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    small = thumbnail(pixels)
    assert small.shape == (min(16, size[0]), min(16, size[1]), 3)
    rows = np.array_split(np.arange(size[0]), small.shape[0]) if size[0] % small.shape[0] == 0 else None
    if rows is not None and size[1] % small.shape[1] == 0:
        columns = np.array_split(np.arange(size[1]), small.shape[1])
        naive = [[pixels[np.ix_(r, c)].reshape(-1, 3).mean(0) / 255 for c in columns] for r in rows]
        assert np.allclose(small, naive, atol=1e-6)


def test_diversity_sees_prompts_apart_and_samples_alike() -> None:
    """Two prompts with two samples each: black and white for one, twice grey for the other."""
    flat = [np.full((4, 4, 3), value, np.float32) for value in (0.0, 1.0, 0.5, 0.5)]
    same, across = diversity(flat, ["a", "a", "b", "b"])
    assert same.tolist() == [1, 1, 0, 0]
    assert across.tolist() == [0.5, 0.5, 0.5, 0.5]
    alone, none = diversity(flat[:1], ["a"])
    assert np.isnan(alone).all()
    assert np.isnan(none).all()
