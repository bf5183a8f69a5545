"""The verifier of answers: what an answer says of a scene's picture, and what of that is not so. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmpo.shapes.grammar import COLOURS, PLACES, RELATIONS, SHAPES, Item, Scene
from mmpo.shapes.questions import NUMBERS, Question, right_answers

FAULTS = ("object", "colour", "shape", "relation", "count")
_PLACES = sum(PLACES.values(), ())
_ITEM = rf"(?:an?\s+)?({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})"
_MORE = rf"(?:\s*,?\s*(?:and|with)\s+{_ITEM}|\s*,\s*{_ITEM})"
_RELATIONAL = re.compile(rf"{_ITEM}(?:\s+({'|'.join(RELATIONS)})\s+{_ITEM})?((?:{_MORE})*)")
_PLACED = re.compile(rf"({'|'.join(_PLACES)})\s+{_ITEM}\s+and\s+({'|'.join(_PLACES)})\s+{_ITEM}((?:{_MORE})*)")
_SAYS_WHERE = {
    "above": ("vertical", 0),
    "below": ("vertical", 1),
    "left of": ("horizontal", 0),
    "right of": ("horizontal", 1),
}


@dataclass(frozen=True, slots=True)
class Description:
    """What a description says.

    Args:
        items: the objects that it names, in order.
        order: of the first two, ("vertical" or "horizontal", which of the two is upper or left); None where it says
            nothing about that, ("", 0) where it says what cannot be.
    """

    items: tuple[Item, ...]
    order: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer against the truth.

    Args:
        parsed: it could be read as an answer to its question. Otherwise it is wrong and nothing else is known.
        correct: it says what was asked for, all of it, and nothing else.
        faults: of `FAULTS`, one for each thing said that is not so: an object that is not there, the colour or the
            shape of one that is, the relation, the number.
        mentions: objects that a description names.
        false_mentions: those of them that are not there as named.
        covered: objects of the scene that it names rightly.
        said: the answer as it was read: "yes", "no", a word of the world; "" for a description, or an answer not read.
    """

    parsed: bool
    correct: bool
    faults: tuple[str, ...] = ()
    mentions: int = 0
    false_mentions: int = 0
    covered: int = 0
    said: str = ""

    @property
    def hallucinated(self) -> bool:
        """Whether it says anything that is not so. A denial of what is there is wrong, and no hallucination."""
        return bool(self.faults)


UNREAD = Judgement(False, False)


def plain(text: str) -> str:
    """Lower case, single spaces, without the stop at its end."""
    return " ".join(text.lower().split()).rstrip(".!").rstrip()


def read_description(text: str) -> Description | None:
    """What a caption says: one of the grammar's, of any objects, and further ones after it; None for anything else."""
    text = plain(text)
    found = _PLACED.fullmatch(text)
    if found:
        here, colour, shape, there, second_colour, second_shape, more = found.groups()[:7]
        axis = next((axis for axis, ends in PLACES.items() if {here, there} == set(ends)), None)
        order = (axis, PLACES[axis].index(here)) if axis else ("", 0)
        return Description((Item(colour, shape), Item(second_colour, second_shape), *_items(more)), order)
    found = _RELATIONAL.fullmatch(text)
    if not found:
        return None
    colour, shape, relation, second_colour, second_shape, more = found.groups()[:6]
    items = (Item(colour, shape), *([Item(second_colour, second_shape)] if relation else []), *_items(more))
    return Description(items, _SAYS_WHERE[relation] if relation else None)


def _items(text: str) -> list[Item]:
    return [Item(colour, shape) for colour, shape in re.findall(_ITEM, text)]


def judge(answer: str, question: Question, scene: Scene, objects: int = 2) -> Judgement:
    """What an answer says, against what the picture shows.

    Args:
        answer: as the model said it.
        question: what it was asked.
        scene: what the picture shows.
        objects: how many objects it shows, other than 2 in a spoilt picture.
    Raises:
        ValueError: the question cannot be asked of this scene.
    """
    right = right_answers(question, scene, objects)
    if question.kind == "describe":
        said = read_description(answer)
        return UNREAD if said is None else _judge_description(said, scene)
    short = _read_short(plain(answer), question.kind)
    if short is None:
        return UNREAD
    correct = short == right[0]
    faults: tuple[str, ...] = () if correct or short == "no" else (_fault_of(question),)
    return Judgement(True, correct, faults, said=short)


def _fault_of(question: Question) -> str:
    kinds = {"exists": "object", "related": "relation", "where": "relation", "relative": "relation"}
    return kinds.get(question.kind, question.kind)


_WORDS: dict[str, tuple[str, ...]] = {
    "exists": ("yes", "no"),
    "related": ("yes", "no"),
    "colour": COLOURS,
    "shape": SHAPES,
    "where": _PLACES,
    "relative": RELATIONS,
    "count": NUMBERS,
}


def answer_words(kind: str) -> tuple[str, ...]:
    """The short answers that questions of a kind have."""
    return _WORDS[kind]


def _read_short(text: str, kind: str) -> str | None:
    """The one word of the kind's that a text holds; of yes and no the one that it begins with."""
    if kind in ("exists", "related"):
        first = re.match(r"(yes|no)\b", text)
        return first[1] if first else None
    if kind == "count":
        text = re.sub(r"\b[0-3]\b", lambda digit: NUMBERS[int(digit[0])], text)
    found = {word for word in _WORDS[kind] if re.search(rf"\b{word}\b", text)}
    return found.pop() if len(found) == 1 else None


def _judge_description(said: Description, scene: Scene) -> Judgement:
    truth = (scene.first, scene.second)
    match = _matched(said.items, truth)
    faults = [_difference(item, place, truth) for item, place in zip(said.items, match, strict=True)]
    wrong = [fault for fault in faults if fault]
    one, two = (*match, None, None)[:2]
    ordered = said.order is None or _is_so(said.order, one, two, scene)
    if not ordered:
        wrong.append("relation")
    covered = sum(item in truth for item in set(said.items))
    mentions = len(said.items)
    complete = mentions == 2 and covered == 2 and said.order is not None
    return Judgement(True, complete and not wrong, tuple(wrong), mentions, sum(map(bool, faults)), covered)


def _is_so(order: tuple[str, int], one: int | None, two: int | None, scene: Scene) -> bool:
    """Whether the first two named objects stand so; one that is not there is a fault already and has no place."""
    if one is None or two is None:
        return bool(order[0])
    return order == (scene.axis, one)


def _difference(item: Item, place: int | None, truth: tuple[Item, ...]) -> str:
    """The fault of a named object, or ""."""
    if place is None:
        return "object"
    real = truth[place]
    return "" if item == real else "shape" if item.colour == real.colour else "colour"


def _matched(items: tuple[Item, ...], truth: tuple[Item, ...]) -> list[int | None]:
    """For each named object the real one that it stands for: the same, else one of its colour, else of its shape.

    Each real object is stood for once.
    """
    match: list[int | None] = [None] * len(items)
    for same in (
        lambda item, real: item == real,
        lambda item, real: item.colour == real.colour,
        lambda item, real: item.shape == real.shape,
    ):
        for row, item in enumerate(items):
            free = [place for place, real in enumerate(truth) if place not in match and same(item, real)]
            if match[row] is None and free:
                match[row] = free[0]
    return match
