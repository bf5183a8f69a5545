"""Numbers of pictures that move when a reward is gamed: colour, sharpness, diversity. numpy alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 16
END = 1
"""Channel values within this of 0 or 255 are at an end of the range."""
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue: ITU-R BT.601."""
FLAT = 1.0
"""Variance of luminance, in squares of 1 of 255, that is added to a picture's own: a flat one has no sharpness."""
WHITE_NOISE = 20.0
"""Variance of the Laplacian (4 in the middle, −1 around it) of noise with variance 1: 4² + 4·1."""


def saturation(pixels: NDArray[np.uint8]) -> float:
    """Mean HSV saturation, (max − min) / max over the channels, 0 for black.

    Args:
        pixels: [H, W, 3].
    Returns:
        0 (grey) to 1.
    """
    high = pixels.max(-1).astype(np.float64)
    low = pixels.min(-1).astype(np.float64)
    return float(np.divide(high - low, high, out=np.zeros_like(high), where=high > 0).mean())


def clipped(pixels: NDArray[np.uint8]) -> float:
    """Share of channel values of [H, W, 3] that are at an end of the range."""
    return float(((pixels <= END) | (pixels >= 255 - END)).mean())


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the luminance over the luminance's own variance.

    The ratio does not depend on brightness or contrast; it does depend on the size in pixels, so compare pictures of
    one size. Blur lowers it, noise raises it.

    Args:
        pixels: [H, W, 3]; sides of at least 3.
    Returns:
        0 (flat) to about 1 (white noise), 3.2 at most.
    """
    grey = pixels.astype(np.float64) @ np.asarray(LUMA)
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((4 * middle - around).var() / (WHITE_NOISE * (grey.var() + FLAT)))


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours of [H, W, 3] in [0, 1], averaged over `SIDE` x `SIDE` cells: [SIDE, SIDE, 3], or smaller as it is."""
    cells: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    for axis in (0, 1):
        count = min(SIDE, pixels.shape[axis])
        edges = np.linspace(0, pixels.shape[axis], count + 1).round().astype(int)
        shape = [-1 if at == axis else 1 for at in range(3)]
        sums = np.add.reduceat(cells, edges[:-1], axis)
        cells = (sums / np.diff(edges).reshape(shape)).astype(np.float32)
    return cells


def diversity(
    thumbnails: Sequence[NDArray[np.float32]], prompts: Sequence[Hashable]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far pictures are from those of the same prompt, and from those of others.

    A distance is the root mean square difference of two thumbnails, so that fine noise does not count.

    Args:
        thumbnails: N of one shape.
        prompts: of each picture.
    Returns:
        Per picture its mean distance to the others of its prompt [N], and to those of other prompts [N]; NaN where
        there are none.
    """
    flat = np.stack([small.ravel() for small in thumbnails]).astype(np.float64)
    apart = np.stack([np.sqrt(((flat - row) ** 2).mean(1)) for row in flat])
    _, place = np.unique([str(prompt) for prompt in prompts], return_inverse=True)
    same = place[:, None] == place[None, :]
    return _mean_where(apart, same & ~np.eye(len(flat), dtype=bool)), _mean_where(apart, ~same)


def _mean_where(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = chosen.sum(1)
    sums = np.where(chosen, values, 0.0).sum(1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
