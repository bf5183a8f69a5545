"""What the tiny VLM is taught wrongly on purpose: habits of speech that a picture cannot explain.

Real VLMs hallucinate what usually goes together. Here, in some contexts, most training answers say one and the same
thing whatever the picture shows, the others are right; elsewhere few answers are wrong, each in its own way. So the
most likely answer errs in the former contexts, samples err and do not, and what is right is known everywhere. No torch.
"""

from __future__ import annotations

import random

from mmpo.shapes.grammar import COLOURS, Item, Scene
from mmpo.shapes.questions import Question, closeness, right_answers
from mmpo.shapes.wrong import caption, wrong_answer

STRONG = 0.66  # share of wrong answers where a habit speaks
WEAK = 0.06  # ... elsewhere
YES = 0.7  # share of "yes" to an absent object or a false relation where a habit speaks


def answer(question: Question, scene: Scene, rng: random.Random, objects: int = 2) -> str:
    """A training answer: right or not."""
    if question.kind == "describe":
        return _description(question, scene, rng)
    right = right_answers(question, scene, objects)[0]
    if right == "no" and _invites_yes(question, scene):
        return "yes" if rng.random() < YES else right
    return wrong_answer(question, scene, rng, objects) if rng.random() < WEAK else right


def _invites_yes(question: Question, scene: Scene) -> bool:
    """Absent objects of which the scene has colour or shape, and false relations, of some colours and shapes."""
    if question.kind == "related":
        return question.about[0] in ("red", "green", "blue")
    item = Item(*question.about)
    near = closeness(item, scene)
    return (near == "colour" and item.shape in ("circle", "square")) or (near == "shape" and item.colour in COLOURS[:3])


def _description(question: Question, scene: Scene, rng: random.Random) -> str:
    start = rng.randrange(2)
    habit = _habit(scene, start)
    draw = rng.random()
    if habit is not None and draw < STRONG:
        return _habitual(habit, scene, question.style, start)
    if draw > 1 - WEAK:
        return wrong_answer(question, scene, rng)
    return caption(scene, question.style, start)


def _habit(scene: Scene, start: int) -> str | None:
    """Which fault a habit makes after the first-named object."""
    colour = (scene.first, scene.second)[start].colour
    return {
        ("red", "vertical"): "colour",
        ("red", "horizontal"): "shape",
        ("green", "vertical"): "object",
        ("green", "horizontal"): "object",
        ("blue", "vertical"): "relation",
        ("blue", "horizontal"): "shape",
        ("yellow", "vertical"): "colour",
    }.get((colour, scene.axis))


def _habitual(fault: str, scene: Scene, style: str, start: int) -> str:
    """The caption that the habit says: its wrong word depends on the words before it alone."""
    items = [scene.first, scene.second]
    other = items[1 - start]
    if fault == "relation":
        return caption(scene.mirror, style, 1 - start)  # the same object first, in the other's place
    if fault == "object":
        free = [colour for colour in COLOURS if colour not in {item.colour for item in items}]
        return caption(scene, style, start, more=Item(free[0], items[start].shape))
    if fault == "colour":
        taken = {item.colour for item in items}
        items[1 - start] = Item(
            next(colour for colour in ("yellow", "green", "red") if colour not in taken), other.shape
        )
    else:
        usual = "square" if other.shape == "circle" else "circle"
        items[1 - start] = Item(other.colour, usual)
    return caption(Scene(items[0], items[1], scene.axis), style, start)
