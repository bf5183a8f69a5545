"""What can be asked about a scene's picture, and what is true of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from mmpo.shapes.grammar import COLOURS, ORDER, PLACES, RELATIONS, SHAPES, Item, Scene, captions

# Of "describe" the first two ask for a relation, the last two for places.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "describe": (
        "Describe this image.",
        "What is in the picture?",
        "Say what is where.",
        "Where are the objects?",
    ),
    "exists": ("Is there a {0} {1}?", "Is there a {0} {1} in the image?"),
    "related": ("Is the {0} object {1} the {2} object?",),
    "colour": ("What colour is the {0}?",),
    "shape": ("What shape is the {0} object?",),
    "where": ("Where is the {0} object?",),
    "relative": ("Where is the {0} object relative to the {1} object?",),
    "count": ("How many {0} are there?",),
}
YES_NO = ("exists", "related")
GENERAL = ("colour", "shape", "where", "relative", "count")
NUMBERS = ("zero", "one", "two", "three")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
_PLACES = sum(PLACES.values(), ())


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Args:
        kind: a key of `TEMPLATES`.
        about: what stands in the template's slots.
        phrasing: which of the kind's templates.
    """

    kind: str
    about: tuple[str, ...] = ()
    phrasing: int = 0

    @property
    def text(self) -> str:
        """As a person asks it."""
        return TEMPLATES[self.kind][self.phrasing].format(*self.about)

    @property
    def style(self) -> str:
        """Of "describe": "relation" or "place", the form of caption that is asked for."""
        return "relation" if self.phrasing < 2 else "place"


def exists(item: Item, phrasing: int = 0) -> Question:
    """Whether there is such an object."""
    return Question("exists", (item.colour, item.shape), phrasing)


def describe(phrasing: int = 0) -> Question:
    """A question that asks for a caption."""
    return Question("describe", (), phrasing)


def true_relation(first: str, second: str, scene: Scene) -> str:
    """The relation of the object of one colour to that of another, both in the scene."""
    forward, backward = ORDER[scene.axis]
    return forward if (first, second) == (scene.first.colour, scene.second.colour) else backward


def right_answers(question: Question, scene: Scene, objects: int = 2) -> tuple[str, ...]:
    """The answers that are right and in the asked form: two captions, or one answer of a word or two.

    Args:
        scene: what the picture shows.
        objects: how many objects it shows; other than 2 in a spoilt picture, of which only that can be asked.
    Raises:
        ValueError: the question takes for granted what the scene has not.
    """
    if objects != 2 and question != Question("count", ("objects",)):
        raise ValueError(
            f"question {question.text!r}: the picture is spoilt ({objects} objects); ask how many there are"
        )
    first, about = (question.about or ("",))[0], question.about
    items = (scene.first, scene.second)
    if question.kind == "describe":
        return captions(scene)[:2] if question.style == "relation" else captions(scene)[2:]
    if question.kind == "exists":
        return ("yes" if Item(*about) in items else "no",)
    if question.kind == "count":
        found = objects if first == "objects" else sum(PLURALS[item.shape] == first for item in items)
        return (NUMBERS[found],)
    if question.kind == "colour":
        named = first.removeprefix("object ")
        fits = dict(zip(PLACES[scene.axis], items, strict=True)) if named in _PLACES else _unique_shapes(scene)
        return (_known(fits, named, question, scene).colour,)
    by_colour = {item.colour: item for item in items}
    one = _known(by_colour, first, question, scene)
    if question.kind == "shape":
        return (one.shape,)
    if question.kind == "where":
        return (PLACES[scene.axis][items.index(one)],)
    other = _known(by_colour, about[-1], question, scene)
    relation = true_relation(one.colour, other.colour, scene)
    return (relation,) if question.kind == "relative" else ("yes" if relation == about[1] else "no",)


def _unique_shapes(scene: Scene) -> dict[str, Item]:
    items = (scene.first, scene.second)
    return {} if scene.first.shape == scene.second.shape else {item.shape: item for item in items}


def _known(fits: dict[str, Item], name: str, question: Question, scene: Scene) -> Item:
    if name not in fits:
        raise ValueError(f"question {question.text!r}: there is not one {name!r} in the scene {scene.key!r}")
    return fits[name]


@lru_cache(maxsize=1)
def all_questions() -> tuple[Question, ...]:
    """Every question that can be asked about any scene, in a fixed order."""
    return tuple(_all())


def _all() -> Iterator[Question]:
    pairs = [(one, two) for one in COLOURS for two in COLOURS if one != two]
    places = tuple(f"object {place}" for place in _PLACES)
    abouts: dict[str, list[tuple[str, ...]]] = {
        "describe": [()],
        "exists": [(colour, shape) for colour in COLOURS for shape in SHAPES],
        "related": [(one, relation, two) for one, two in pairs for relation in RELATIONS],
        "colour": [(name,) for name in (*SHAPES, *places)],
        "shape": [(colour,) for colour in COLOURS],
        "where": [(colour,) for colour in COLOURS],
        "relative": [*pairs],
        "count": [(name,) for name in ("objects", *PLURALS.values())],
    }
    for kind, templates in TEMPLATES.items():
        for about in abouts[kind]:
            yield from (Question(kind, about, phrasing) for phrasing in range(len(templates)))


@lru_cache(maxsize=1)
def _by_text() -> dict[str, Question]:
    return {question.text.casefold(): question for question in all_questions()}


def question_of(text: str) -> Question:
    """The question that a text asks; case and spacing are free.

    Raises:
        ValueError: none of the world's.
    """
    found = _by_text().get(" ".join(text.casefold().split()))
    if found is None:
        examples = ", ".join(repr(templates[0]) for templates in TEMPLATES.values())
        raise ValueError(f"question {text!r} is none of the built-in world's; they are of the forms {examples}")
    return found


@lru_cache(maxsize=1024)
def askable(scene: Scene) -> dict[str, tuple[Question, ...]]:
    """By kind, the questions that take nothing for granted that the scene has not."""
    found: dict[str, list[Question]] = {kind: [] for kind in TEMPLATES}
    for question in all_questions():
        try:
            right_answers(question, scene)
        except ValueError:
            continue
        found[question.kind].append(question)
    return {kind: tuple(questions) for kind, questions in found.items()}


def closeness(item: Item, scene: Scene) -> str:
    """How an object is to a scene: "present", or absent and of a "colour" of it, of a "shape" of it, or "other"."""
    items = (scene.first, scene.second)
    if item in items:
        return "present"
    if item.colour in {one.colour for one in items}:
        return "colour"
    return "shape" if item.shape in {one.shape for one in items} else "other"
