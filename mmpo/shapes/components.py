"""Reading pixels: background, hard colour masks, connected components, shape templates. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmpo.shapes.canvas import PALETTE, SIZE
from mmpo.shapes.grammar import COLOURS, SHAPES

SOLID = 0.5  # share of an object's full chroma from which a pixel belongs to it
STRAY = 0.4  # ... from which a pixel outside every object is dirt
FOREIGN = 80.0  # deviation (of 255) that neither background nor any colour over it explains
_TINT, _SPREAD, _FRAME = 50.0, 40.0, 0.6  # what a neutral, even background may still show


@dataclass(frozen=True, slots=True)
class Component:
    """One connected region of one colour.

    Args:
        colour: name of the colour.
        rows, columns: [A] indices of its pixels.
        overlap: per shape, intersection over union with the best template of that shape.
    """

    colour: str
    rows: np.ndarray
    columns: np.ndarray
    overlap: dict[str, float]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return len(self.rows)

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the bounding box as (x, y) in pixels."""
        return (
            float(self.columns.min() + self.columns.max() + 1) / 2,
            float(self.rows.min() + self.rows.max() + 1) / 2,
        )


def _chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb - rgb.mean(axis=-1, keepdims=True)


_COLOUR_RGB = np.array([PALETTE[name] for name in COLOURS], np.float32)
_LENGTH = np.linalg.norm(_chroma(_COLOUR_RGB), axis=1)
_DIRECTION = _chroma(_COLOUR_RGB) / _LENGTH[:, None]


def background(rgb: np.ndarray) -> np.ndarray | None:
    """The frame's median colour [3]; None when the frame is not one even neutral colour."""
    frame = np.concatenate([rgb[0], rgb[-1], rgb[1:-1, 0], rgb[1:-1, -1]])
    middle = np.median(frame, axis=0)
    even = (np.abs(frame - middle).max(axis=1) < _SPREAD).mean() >= _FRAME
    return middle if even and middle.max() - middle.min() < _TINT else None


def masks(rgb: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solid pixels and stray pixels of a picture.

    Args:
        rgb: [32, 32, 3] float, 0 to 255.
        middle: [3] background.

    Returns:
        `label` [32, 32] int, 1 + the colour's index where a pixel is solid, else 0; `stray` [32, 32] bool,
        where a pixel is not plain background.
    """
    shift = rgb - middle
    amount = _chroma(shift) @ _DIRECTION.T
    colour = (amount / _LENGTH).argmax(axis=-1)
    alpha = np.take_along_axis(amount, colour[..., None], axis=-1)[..., 0] / _LENGTH[colour]
    explained = np.clip(alpha, 0, 1.2)[..., None] * (_COLOUR_RGB[colour] - middle)
    foreign = np.abs(shift - explained).max(axis=-1) > FOREIGN
    return np.where(alpha > SOLID, colour + 1, 0), (alpha > STRAY) | foreign


@lru_cache(maxsize=1024)
def _templates(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Filled shapes on a height x width box: masks [T, height·width], and the shape's index [T] of each."""
    v = ((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    u = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    # A single pixel at a circle's pole widens its box; a thin apex falls under the solid threshold.
    found = [(0, u**2 + v**2 <= radius**2) for radius in (1.0, 0.93)]
    found += [(1, (u == u) & (v == v))]
    found += [(2, np.abs(u) <= cut + (1 - cut) * (v + 1) / 2) for cut in (0.0, 0.1, 0.2)]
    found += [(3, (np.abs(u) <= arm) | (np.abs(v) <= arm)) for arm in (0.28, 0.34, 0.42)]
    return np.stack([mask.ravel() for _, mask in found]), np.array([index for index, _ in found])


def _overlap(rows: np.ndarray, columns: np.ndarray) -> dict[str, float]:
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    if max(height, width) > 1.6 * min(height, width) or min(height, width) < 4:
        return dict.fromkeys(SHAPES, 0.0)
    box = np.zeros(height * width, bool)
    box[(rows - top) * width + columns - left] = True
    drawn, shape = _templates(height, width)
    ratio = (drawn & box).sum(axis=1) / (drawn | box).sum(axis=1)
    return {name: float(ratio[shape == index].max()) for index, name in enumerate(SHAPES)}


def components(label: np.ndarray, least: int) -> tuple[list[Component], int]:
    """Regions of at least `least` pixels, largest first, and the number of all regions (8-neighbours)."""
    side = SIZE + 2  # a border of zeros, so that neighbours need no bounds check
    grid = np.pad(label, 1).ravel().tolist()
    steps = (-side - 1, -side, -side + 1, -1, 1, side - 1, side, side + 1)
    found, number = list[Component](), 0
    for start in np.flatnonzero(np.pad(label, 1)).tolist():
        colour = grid[start]
        if not colour:
            continue
        grid[start] = 0
        region, number = [start], number + 1
        for place in region:  # grows while it is walked
            for step in steps:
                if grid[place + step] == colour:
                    grid[place + step] = 0
                    region.append(place + step)
        if len(region) >= least:
            rows, columns = np.divmod(np.array(region), side)
            rows, columns = rows - 1, columns - 1
            found.append(Component(COLOURS[colour - 1], rows, columns, _overlap(rows, columns)))
    return sorted(found, key=lambda component: -component.area), number
