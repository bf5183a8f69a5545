"""What rewards' models see of images of every shape and mode, pixel for pixel, against other people's paths to it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as v2
from open_clip import image_transform
from PIL import Image
from tiny_clips import noise
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from transformers import CLIPImageProcessorPil

from mmpo.data.images import decode
from rewards.views import CLIP_MEAN, CLIP_STD, LongestSidePad, ShortestSideCrop, normalised

SIZES = [(512, 512), (1216, 832), (640, 1536), (5, 7), (301, 987), (225, 224), (224, 100), (100, 224), (224, 224)]
"""Square, landscape, portrait, tiny, odd numbers left over, and one side that fits already."""
MODES = ["RGB", "RGBA", "LA", "L", "P", "P with transparency", "CMYK", "I;16", "1"]


def levels(size: tuple[int, int], seed: int) -> np.ndarray:
    """Random 8-bit numbers [H, W]."""
    return np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)


def file_of(mode: str, size: tuple[int, int]) -> tuple[bytes, np.ndarray]:
    """An image file of a mode, and the RGB pixels [H, W, 3] that it stands for, computed from its numbers alone."""
    rgb, grey, alpha = np.asarray(noise(size)), levels(size, 1), levels(size, 2)
    options: dict[str, Any] = {}
    expected = np.repeat(grey[..., None], 3, -1)
    if mode == "RGB":
        image, expected = Image.fromarray(rgb), rgb
    elif mode == "RGBA":
        image, expected = Image.fromarray(np.dstack([rgb, alpha])), on_white(rgb, alpha)
    elif mode == "LA":
        image, expected = Image.fromarray(np.dstack([grey, alpha])), on_white(expected, alpha)
    elif mode == "L":
        image = Image.fromarray(grey)
    elif mode.startswith("P"):
        palette = np.random.default_rng(3).integers(0, 256, (256, 3), dtype=np.uint8)
        image, expected = Image.fromarray(grey), palette[grey]
        image.putpalette(palette.tobytes())
        if mode != "P":
            options = {"transparency": 7}
            expected = np.where(grey[..., None] == 7, np.uint8(255), expected)
    elif mode == "CMYK":
        inks = np.dstack([rgb, alpha])
        image = Image.frombytes("CMYK", size, inks.tobytes())
        left = (255 - inks.astype(int))[..., :3] * (255 - inks.astype(int))[..., 3:] / 255
        expected = left.round().astype(np.uint8)
    elif mode == "I;16":
        image = Image.frombytes("I;16", size, (grey.astype("<u2") * 257).tobytes())
    else:
        bits = grey > 127
        image, expected = Image.fromarray(bits), np.repeat(np.where(bits, 255, 0).astype(np.uint8)[..., None], 3, -1)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG", **options)
    return buffer.getvalue(), expected


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Porter and Duff's "over", on white."""
    share = alpha[..., None].astype(float) / 255
    return (colour * share + 255 * (1 - share)).round().astype(np.uint8)


def normal(pixels: Any) -> torch.Tensor:
    """What the model is given of one view, [3, H, W]."""
    return normalised(pixels[None])[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(37, 37), (53, 37), (5, 7)])
def test_every_mode_is_decoded_to_the_pixels_it_stands_for(mode: str, size: tuple[int, int]) -> None:
    """Off by one step at most, where two ways of rounding meet."""
    data, expected = file_of(mode, size)
    found = np.asarray(decode(data)).astype(int)
    assert np.abs(found - expected).max() <= (1 if mode in ("RGBA", "LA", "CMYK") else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(301, 201), (5, 7)])
def test_from_a_file_to_what_the_model_sees(mode: str, size: tuple[int, int]) -> None:
    """Of the same RGB picture, whatever the file was: as transformers', open_clip's and torchvision's ways."""
    picture = decode(file_of(mode, size)[0])
    theirs = CLIPImageProcessorPil()(picture, return_tensors="pt").pixel_values[0]
    assert torch.equal(normal(ShortestSideCrop()(picture)), theirs)
    theirs = image_transform(224, is_train=False)(picture)
    assert (normal(ShortestSideCrop(odd="round")(picture)) - theirs).abs().max() <= 1e-6
    assert torch.equal(normal(LongestSidePad()(picture)), hps_as_published(picture, antialias=True))


@pytest.mark.parametrize("size", SIZES)
def test_shortest_side_and_crop(size: tuple[int, int]) -> None:
    image = noise(size)
    assert torch.equal(
        normal(ShortestSideCrop()(image)), CLIPImageProcessorPil()(image, return_tensors="pt").pixel_values[0]
    )
    plain = transforms.Compose([transforms.Resize(224, InterpolationMode.BICUBIC), transforms.CenterCrop(224)])
    seen = ShortestSideCrop(odd="round")(image)
    assert np.array_equal(seen.permute(1, 2, 0), np.asarray(plain(image)))
    assert (normal(seen) - image_transform(224, is_train=False)(image)).abs().max() <= 1e-6


def hps_as_published(image: Image.Image, *, antialias: bool) -> torch.Tensor:
    """HPSv2's transform in torchvision's words: to a tensor, longest side, zeros around it, then mean and deviation."""
    pixels = tv.to_tensor(image)
    high, wide = pixels.shape[1:]
    scale = 224 / float(max(high, wide))
    if scale != 1.0:
        high, wide = round(high * scale), round(wide * scale)
        pixels = tv.resize(pixels, [high, wide], InterpolationMode.BICUBIC, antialias=antialias)
    above, left = (224 - high) // 2, (224 - wide) // 2
    pixels = tv.pad(pixels, [left, above, 224 - wide - left, 224 - high - above], fill=0)
    return tv.normalize(pixels, list(CLIP_MEAN), list(CLIP_STD))


@pytest.mark.parametrize("antialias", [True, False], ids=["now", "then"])
@pytest.mark.parametrize("size", SIZES)
def test_longest_side_and_black(size: tuple[int, int], antialias: bool) -> None:
    image = noise(size)
    seen = LongestSidePad(antialias=antialias)(image)
    assert seen.dtype == torch.float32
    assert torch.equal(normal(seen), hps_as_published(image, antialias=antialias))


@pytest.mark.parametrize("size", SIZES)
def test_longest_side_in_8_bits(size: tuple[int, int]) -> None:
    """As torchvision resizes 8-bit pixels; as open_clip's transform, which lets PIL do it; near the exact one."""
    image = noise(size)
    seen = LongestSidePad(fast=True)(image)
    assert seen.dtype == torch.uint8
    high, wide = (round(side * 224 / max(size)) for side in size[::-1])
    resized = v2.resize(v2.pil_to_tensor(image), [high, wide], InterpolationMode.BICUBIC, antialias=True)
    top, left = (224 - high) // 2, (224 - wide) // 2
    assert torch.equal(seen[:, top : top + high, left : left + wide], resized)
    assert int(seen.sum()) == int(resized.sum())
    theirs = image_transform(224, is_train=False, resize_mode="longest", fill_color=0, mean=(0,) * 3, std=(1,) * 3)
    assert (seen / 255 - theirs(image)).abs().mean() * 255 <= 0.05
    exact = LongestSidePad()(image).clamp(0, 1)  # bicubic interpolation overshoots, 8 bits do not
    assert (seen / 255 - exact).abs().mean() * 255 <= 0.5


def test_black_comes_before_the_mean_is_taken_off() -> None:
    seen = normal(LongestSidePad()(Image.new("RGB", (200, 100), "white")))
    black = -torch.tensor(CLIP_MEAN) / torch.tensor(CLIP_STD)
    assert torch.allclose(seen[:, 0, 0], black)
    assert torch.allclose(seen[:, -1, 0], black)
    assert torch.allclose(seen[:, 112, 0], (1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD))


def test_a_line_of_pixels_still_has_a_height() -> None:
    assert LongestSidePad()(noise((2000, 1))).shape == (3, 224, 224)
    assert LongestSidePad(fast=True)(noise((1, 2000))).shape == (3, 224, 224)
    assert ShortestSideCrop()(noise((1, 40))).shape == (3, 224, 224)


def test_views_are_values() -> None:
    """Equal ones are computed once for all rewards."""
    assert ShortestSideCrop() == ShortestSideCrop(224, "floor") != ShortestSideCrop(odd="round")
    assert len({LongestSidePad(), LongestSidePad(224), LongestSidePad(fast=True), LongestSidePad(antialias=False)}) == 3
