"""Wrong answers: right ones with one thing changed that the verifier must notice. Imports no torch."""

from __future__ import annotations

import random

from mmpo.shapes.answers import answer_words
from mmpo.shapes.corruption import corrupted
from mmpo.shapes.grammar import COLOURS, ORDER, PLACES, SHAPES, Item, Scene
from mmpo.shapes.questions import Question, right_answers

CAPTION_FAULTS = ("object", "colour", "shape", "relation")
_CHANGES = {"colour": ("colour",), "shape": ("shape",), "relation": ("mirror", "axis")}


def caption(scene: Scene, style: str, start: int = 0, more: Item | None = None) -> str:
    """A caption of the grammar, in a chosen form.

    Args:
        style: "relation" or "place".
        start: which object is named first: 0 the upper or left one, 1 the other.
        more: a further object, named after them.
    """
    items, places = (scene.first, scene.second), PLACES[scene.axis]
    one, two = items[start], items[1 - start]
    tail = f", with a {more}" if more else ""
    if style == "relation":
        return f"a {one} {ORDER[scene.axis][start]} a {two}{tail}"
    return f"{places[start]} a {one} and {places[1 - start]} a {two}{tail}"


def absent_item(scene: Scene, rng: random.Random) -> Item:
    """An object of a colour that the scene has not."""
    taken = {scene.first.colour, scene.second.colour}
    return Item(rng.choice([colour for colour in COLOURS if colour not in taken]), rng.choice(SHAPES))


def wrong_caption(scene: Scene, style: str, start: int, fault: str, rng: random.Random) -> str:
    """A caption with one fault, in the form of `caption`.

    Args:
        fault: of `CAPTION_FAULTS`; "object" names a third one, or one in another's place that has neither colour nor
            shape of any.
    """
    if fault not in CAPTION_FAULTS:
        raise ValueError(f"wrong_caption: fault is {fault!r}; use one of {', '.join(CAPTION_FAULTS)}")
    if fault != "object":
        return caption(corrupted(scene, rng, rng.choice(_CHANGES[fault])), style, start)
    if rng.random() < 0.5:
        return caption(scene, style, start, more=absent_item(scene, rng))
    items = [scene.first, scene.second]
    shapes = [shape for shape in SHAPES if shape not in {item.shape for item in items}]
    items[rng.randrange(2)] = Item(absent_item(scene, rng).colour, rng.choice(shapes))
    return caption(Scene(items[0], items[1], scene.axis), style, start)


def wrong_answer(question: Question, scene: Scene, rng: random.Random, objects: int = 2) -> str:
    """Another answer of the kind, each with equal chance; to "describe" a caption with a fault of a drawn kind.

    Raises:
        ValueError: the question cannot be asked of this scene.
    """
    right = right_answers(question, scene, objects)
    if question.kind == "describe":
        return wrong_caption(scene, question.style, rng.randrange(2), rng.choice(CAPTION_FAULTS), rng)
    return rng.choice([word for word in answer_words(question.kind) if word != right[0]])
