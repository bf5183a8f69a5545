"""A scene with one thing changed: what a caption must not be mistaken for. Imports no torch."""

from __future__ import annotations

import random

from mmpo.shapes.grammar import AXES, COLOURS, SHAPES, Item, Scene

CHANGES = ("mirror", "axis", "colour", "shape")


def corrupted(scene: Scene, rng: random.Random, change: str | None = None) -> Scene:
    """`scene` with its order, its axis, or one object's colour or shape changed.

    Args:
        rng: draws what is open.
        change: one of `CHANGES`; None draws one, each with equal chance.
    """
    if change is not None and change not in CHANGES:
        raise ValueError(f"corrupted: change is {change!r}; use one of {', '.join(CHANGES)}, or None")
    change = change or rng.choice(CHANGES)
    if change == "mirror":
        return scene.mirror
    if change == "axis":
        return Scene(scene.first, scene.second, AXES[1 - AXES.index(scene.axis)])
    items = [scene.first, scene.second]
    index = rng.randrange(2)
    old = items[index]
    if change == "colour":
        taken = {item.colour for item in items}
        items[index] = Item(rng.choice([colour for colour in COLOURS if colour not in taken]), old.shape)
    else:
        items[index] = Item(old.colour, rng.choice([shape for shape in SHAPES if shape != old.shape]))
    return Scene(items[0], items[1], scene.axis)
