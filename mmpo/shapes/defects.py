"""What can go wrong in a picture, independent of its caption: the bad modes that preference training repairs."""

from __future__ import annotations

import random

from mmpo.shapes.canvas import PALETTE, SIZE, Placed, Stroke
from mmpo.shapes.grammar import COLOURS, SHAPES, Item

DEFECTS = ("missing", "extra", "scribbles")
MARGIN = 1.0  # pixels between an object and the border
GAP = 1.5  # pixels between two objects: less and the verifier would see one component


def missing(objects: list[Placed], rng: random.Random) -> list[Placed]:
    """One of the two objects, either with equal chance."""
    return [rng.choice(objects)]


def extra(objects: list[Placed], rng: random.Random) -> list[Placed] | None:
    """The objects and a smaller third one of a third colour beside them; None where there is no room."""
    taken = {placed.item.colour for placed in objects}
    colour = rng.choice([name for name in COLOURS if name not in taken])
    item = Item(colour, rng.choice(SHAPES))
    for _ in range(40):
        half = rng.uniform(2.9, 3.8)
        low, high = MARGIN + half, SIZE - MARGIN - half
        x, y = rng.uniform(low, high), rng.uniform(low, high)
        if all(max(abs(x - other.x), abs(y - other.y)) > half + other.half + GAP for other in objects):
            return [*objects, Placed(item, x, y, half, PALETTE[colour])]
    return None


def scribbles(rng: random.Random) -> list[Stroke]:
    """Three coloured lines across the picture."""

    def point() -> tuple[float, float]:
        return rng.uniform(1, SIZE - 1), rng.uniform(1, SIZE - 1)

    strokes: list[Stroke] = []
    while len(strokes) < 3:
        start, end = point(), point()
        if abs(start[0] - end[0]) + abs(start[1] - end[1]) > 12:  # a short stroke could hide inside an object
            strokes.append(Stroke((start, end), rng.uniform(1.2, 1.8), PALETTE[rng.choice(COLOURS)]))
    return strokes
