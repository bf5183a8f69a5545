"""Scene -> picture: 32x32 RGB with jitter in place, size and colour. Imports no torch."""

from __future__ import annotations

import random

from PIL import Image

from mmpo.shapes import defects
from mmpo.shapes.canvas import BACKGROUNDS, PALETTE, SIZE, Colour, Placed, Stroke, draw
from mmpo.shapes.grammar import Scene

_SPREAD = 8.0  # pixels from the middle to an object's centre, along the axis
_ALONG, _ACROSS = 1.2, 4.0  # jitter of the centre in pixels
_HALF = (4.6, 5.6)  # half an object's width: two fit with a gap of more than 2 pixels


def _jitter(colour: Colour, rng: random.Random) -> Colour:
    red, green, blue = (min(255, max(0, channel + rng.randint(-8, 8))) for channel in colour)
    return red, green, blue


def _layout(scene: Scene, rng: random.Random) -> list[Placed]:
    placed = []
    for item, side in ((scene.first, -1.0), (scene.second, 1.0)):
        along = SIZE / 2 + side * _SPREAD + rng.uniform(-_ALONG, _ALONG)
        across = SIZE / 2 + rng.uniform(-_ACROSS, _ACROSS)
        x, y = (across, along) if scene.axis == "vertical" else (along, across)
        placed.append(Placed(item, x, y, rng.uniform(*_HALF), _jitter(PALETTE[item.colour], rng)))
    return placed


def render(scene: Scene, seed: int, background: str | None = None, defect: str | None = None) -> Image.Image:
    """Picture of a scene; equal arguments give equal pixels on every machine.

    Args:
        scene: what to draw.
        seed: of the jitter, and of `background` and the defect's form where those are open.
        background: "white", "grey", "black"; None draws one.
        defect: None for a clean picture, "missing", "extra" or "scribbles" for a spoilt one.

    Returns:
        RGB image, 32x32.
    """
    if background is not None and background not in BACKGROUNDS:
        raise ValueError(f"render: background is {background!r}; use one of {', '.join(BACKGROUNDS)}, or None")
    if defect is not None and defect not in defects.DEFECTS:
        raise ValueError(f"render: defect is {defect!r}; use one of {', '.join(defects.DEFECTS)}, or None")
    rng = random.Random(f"{scene.key}/{seed}")  # text seeds hash by SHA-512: equal in every process
    shade = rng.randint(-10, 10)
    red, green, blue = (channel + shade for channel in BACKGROUNDS[background or rng.choice(tuple(BACKGROUNDS))])
    objects, strokes = _layout(scene, rng), list[Stroke]()
    if defect == "missing":
        objects = defects.missing(objects, rng)
    elif defect == "scribbles":
        strokes = defects.scribbles(rng)
    elif defect == "extra":
        crowd = defects.extra(objects, rng)
        while crowd is None:  # no room beside these two: draw their places again
            objects = _layout(scene, rng)
            crowd = defects.extra(objects, rng)
        objects = crowd
    return draw((red, green, blue), objects, strokes)
