"""The world's language: two coloured shapes, and where one stands to the other. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
SHAPES = ("circle", "square", "triangle", "cross")
AXES = ("vertical", "horizontal")
RELATIONS = ("above", "below", "left of", "right of")
# First place, second place; then the relation of first to second, and of second to first.
PLACES = {"vertical": ("at the top", "at the bottom"), "horizontal": ("on the left", "on the right")}
ORDER = {"vertical": ("above", "below"), "horizontal": ("left of", "right of")}
WORDS = tuple(sorted({"a", "and", *COLOURS, *SHAPES, *" ".join((*RELATIONS, *sum(PLACES.values(), ()))).split()}))


@dataclass(frozen=True, slots=True)
class Item:
    """One object: `colour` of `COLOURS`, `shape` of `SHAPES`."""

    colour: str
    shape: str

    def __post_init__(self) -> None:
        for name, value, known in (("colour", self.colour, COLOURS), ("shape", self.shape, SHAPES)):
            if value not in known:
                raise ValueError(f"Item: {name} is {value!r}; use one of {', '.join(known)}")

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Two objects of different colours. It is order-canonical: "A above B" and "B below A" are one scene.

    Args:
        first: the upper object (`axis` "vertical") or the left one ("horizontal").
        second: the lower or the right object.
        axis: "vertical" or "horizontal".
    """

    first: Item
    second: Item
    axis: str

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"Scene: axis is {self.axis!r}; use one of {', '.join(AXES)}")
        if self.first.colour == self.second.colour:
            raise ValueError(f"Scene: both objects are {self.first.colour}; the two objects must differ in colour")

    @property
    def key(self) -> str:
        """Identity of the scene and of all its captions, e.g. "red circle above blue square"."""
        return f"{self.first} {ORDER[self.axis][0]} {self.second}"

    @property
    def mirror(self) -> Scene:
        """The same objects in exactly swapped order."""
        return Scene(self.second, self.first, self.axis)


def seedless_hash(text: str, salt: str) -> int:
    """64-bit hash of `text` that never changes: no seed, no process, no platform."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{text}".encode()).digest()[:8], "big")


def captions(scene: Scene) -> tuple[str, ...]:
    """The four captions of a scene: canonical first, its relational converse, then two that name the places.

    Which of "A above B" and "B below A" is canonical is a coin flip by hash, so that all four relations
    occur equally often among canonical captions.
    """
    first, second = f"a {scene.first}", f"a {scene.second}"
    forward, backward = ORDER[scene.axis]
    here, there = PLACES[scene.axis]
    relational = (f"{first} {forward} {second}", f"{second} {backward} {first}")
    if seedless_hash(scene.key, "canonical caption") % 2:
        relational = relational[::-1]
    return (*relational, f"{here} {first} and {there} {second}", f"{there} {second} and {here} {first}")


@lru_cache(maxsize=1)
def all_scenes() -> tuple[Scene, ...]:
    """All 960 scenes, in a fixed order."""
    items = [Item(colour, shape) for colour in COLOURS for shape in SHAPES]
    return tuple(
        Scene(first, second, axis)
        for axis in AXES
        for first in items
        for second in items
        if first.colour != second.colour
    )


@lru_cache(maxsize=1)
def _scene_of() -> dict[str, Scene]:
    return {caption: scene for scene in all_scenes() for caption in captions(scene)}


def parse(text: str) -> Scene:
    """The scene that `text` describes; case and spacing are free, a full stop at the end is allowed."""
    scene = _scene_of().get(" ".join(text.lower().removesuffix(".").split()))
    if scene is None:
        raise ValueError(
            f"text {text!r} is not in the shapes grammar; say 'a COLOUR SHAPE RELATION a COLOUR SHAPE' or "
            "'PLACE a COLOUR SHAPE and PLACE a COLOUR SHAPE' with two different colours, "
            f"COLOUR one of {', '.join(COLOURS)}; SHAPE one of {', '.join(SHAPES)}; RELATION one of "
            f"{', '.join(RELATIONS)}; PLACE one of {', '.join(sum(PLACES.values(), ()))}"
        )
    return scene
