"""The rejected image of a row, made of its own image or taken from another row; the same at every visit of the row."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from mmpo.answer_pairs import AnswerPair
from mmpo.data.images import decode

CROPPED = (0.01, 0.2)
"""Share of the area that mDPO's crop keeps."""
NOISE_STEP, NOISE_STEPS = 500, 1000
"""POVID's and CHiP's step of the noise, of how many."""
_TRIES = 10


def crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """A random crop of 1 to 20 % of the area, in size as the whole: mDPO's `RandomResizedCrop`.

    The source crops the tensor that the model takes, drawn anew in every forward; here the picture itself is cropped.
    """
    width, height = image.size
    box = (0, 0, width, height)
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*CROPPED)
        shape = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = max(1, round(math.sqrt(area * shape))), max(1, round(math.sqrt(area / shape)))
        if wide <= width and high <= height:
            left, top = rng.randint(0, width - wide), rng.randint(0, height - high)
            box = (left, top, left + wide, top + high)
            break
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def noise(image: Image.Image, rng: random.Random) -> Image.Image:
    """q(x_500 | x) on values of 0 to 1, β_t = σ(linspace(−6, 6, 1000))·(5e-3 − 1e-5) + 1e-5: POVID's and CHiP's.

    What leaves [0, 1] is cut there, since the result is a picture; the sources keep it.
    """
    betas = 1 / (1 + np.exp(-np.linspace(-6, 6, NOISE_STEPS))) * (5e-3 - 1e-5) + 1e-5
    kept = float(np.cumprod(1 - betas)[NOISE_STEP])
    pixels = np.asarray(image, dtype=np.float64) / 255
    drawn = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape)
    noisy = math.sqrt(kept) * pixels + math.sqrt(1 - kept) * drawn
    return Image.fromarray((noisy.clip(0, 1) * 255).round().astype(np.uint8))


def black(image: Image.Image, rng: random.Random) -> Image.Image:
    """A black picture of the same size."""
    return Image.new("RGB", image.size)


MADE: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {"crop": crop, "noise": noise, "black": black}


def with_negative_images(pair: AnswerPair, kind: str, *, seed: int, others: Sequence[bytes] = ()) -> AnswerPair:
    """A row with rejected images of this kind in place of its own; a row without images stays as it is.

    Args:
        kind: a key of `MADE`, "random" (an image of `others` that is not the row's), or "data" (as it is).
        seed: beside the row's id all that it depends on.
        others: for "random".
    Raises:
        ValueError: no such kind, a broken image, or no other image to take.
    """
    if kind == "data" or not pair.images:
        return pair
    rng = random.Random(f"negative image/{kind}/{seed}/{pair.id}")
    if kind == "random":
        return replace(pair, rejected_images=tuple(_other(pair, others, rng) for _ in pair.images))
    if kind not in MADE:
        raise ValueError(f"negative_image: expected data, random, {', '.join(MADE)}, got {kind!r}")
    return replace(pair, rejected_images=tuple(_file(MADE[kind](decode(data), rng)) for data in pair.images))


def _other(pair: AnswerPair, others: Sequence[bytes], rng: random.Random) -> bytes:
    for _ in range(100):
        found = rng.choice(others) if others else pair.images[0]
        if found not in pair.images:
            return found
    raise ValueError("negative_image: random takes another row's image, and the rows show one image only; use crop")


def _file(image: Image.Image) -> bytes:
    """Lossless and not compressed: it is made anew at every visit and read at once."""
    file = io.BytesIO()
    image.save(file, "BMP")
    return file.getvalue()
