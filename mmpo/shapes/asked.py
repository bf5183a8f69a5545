"""Questions with their pictures: the fixed test of hallucination of a split, and any number of drawn ones. No torch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image

from mmpo.shapes.answers import Judgement, judge
from mmpo.shapes.grammar import Item, Scene
from mmpo.shapes.prompts import scenes
from mmpo.shapes.questions import GENERAL, TEMPLATES, Question, askable, closeness, describe, exists
from mmpo.shapes.render import render

OBJECTS = {"missing": 1, "extra": 3}  # of a picture with that defect
HOW_MANY = Question("count", ("objects",))
_SEEDS = {"exam": 60_000, "drawn": 80_000_000}  # of pictures; training pictures are of other scenes


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about one picture.

    Args:
        question: what is asked.
        scene: what the picture shows.
        split: the side that the scene is on.
        seed: of the picture.
        defect: of the picture, of which then only the number of objects is asked.
    """

    question: Question
    scene: Scene
    split: str
    seed: int
    defect: str | None = None

    @property
    def objects(self) -> int:
        """How many objects the picture shows."""
        return OBJECTS.get(self.defect or "", 2)

    @property
    def image(self) -> Image.Image:
        """The picture, RGB 32×32."""
        return render(self.scene, self.seed, defect=self.defect)

    @property
    def closeness(self) -> str:
        """Of "exists": how near what is asked for is to what is there (`mmpo.shapes.questions.closeness`); else ""."""
        return closeness(Item(*self.question.about), self.scene) if self.question.kind == "exists" else ""

    def judge(self, answer: str) -> Judgement:
        """The answer against the picture's scene."""
        return judge(answer, self.question, self.scene, self.objects)


def exam(split: str, *, renders: int = 1, limit: int | None = None) -> list[Asked]:
    """The test of hallucination: 16 questions about each picture of each scene of a split, the same on every machine.

    Two descriptions (a relation's and a place's form); six probes of presence, half of them of what is there, the
    absent ones sharing a colour, a shape, nothing; one true and one false relation; colour, shape, place, relation,
    number of a shape, and the number of objects, for which half of the pictures miss one or have one more.

    Args:
        split: "train", "tune" or "test".
        renders: pictures of each scene.
        limit: the first so many scenes of the split's order.
    """
    return [one for scene in scenes(split)[:limit] for number in range(renders) for one in _about(scene, split, number)]


def _about(scene: Scene, split: str, number: int) -> Iterator[Asked]:
    rng, seed = random.Random(f"exam/{scene.key}/{number}"), _SEEDS["exam"] + number
    known = askable(scene)
    asked = [describe(rng.randrange(2)), describe(2 + rng.randrange(2)), *_probes(scene, rng)]
    true = [question for question in known["related"] if Asked(question, scene, split, seed).judge("yes").correct]
    asked += [rng.choice(true), rng.choice([question for question in known["related"] if question not in true])]
    asked += [rng.choice(known[kind]) for kind in GENERAL[:-1]]
    asked.append(rng.choice([question for question in known["count"] if question != HOW_MANY]))
    yield from (Asked(question, scene, split, seed) for question in asked)
    yield Asked(HOW_MANY, scene, split, seed, rng.choice((None, None, *OBJECTS)))


def _probes(scene: Scene, rng: random.Random) -> list[Question]:
    first, second = rng.sample((scene.first, scene.second), 2)
    phrasing = rng.randrange(2)
    probes = [exists(first, phrasing), exists(first, 1 - phrasing), exists(second, rng.randrange(2))]
    for near in ("colour", "shape", "other"):
        probes.append(rng.choice(probes_by_closeness(scene)[near]))
    return probes


@lru_cache(maxsize=1024)
def probes_by_closeness(scene: Scene) -> dict[str, tuple[Question, ...]]:
    """The questions of presence that can be asked of a scene, by how near what they ask for is to what is there."""
    found: dict[str, list[Question]] = {}
    for question in askable(scene)["exists"]:
        found.setdefault(closeness(Item(*question.about), scene), []).append(question)
    return {near: tuple(questions) for near, questions in found.items()}


def drawn(split: str, count: int, seed: int, kinds: Sequence[str] = ("describe", "exists")) -> Iterator[Asked]:
    """Questions for training on: each about another picture, the kinds in turn, half of the probes true.

    Args:
        split: the scenes come from there, in turn.
        count: how many.
        seed: of everything drawn; a longer list begins with the shorter one.
        kinds: of question, of `mmpo.shapes.questions.TEMPLATES`; one may stand there twice.
    """
    unknown = sorted(set(kinds) - set(TEMPLATES))
    if unknown or not kinds:
        raise ValueError(f"kinds: {', '.join(unknown) or 'empty'}; use some of {', '.join(TEMPLATES)}")
    found = scenes(split)
    for number in range(count):
        rng = random.Random(f"drawn/{seed}/{number}")
        scene, kind = found[number % len(found)], kinds[number % len(kinds)]
        picture = _SEEDS["drawn"] + 1_000_000 * seed + number
        one = Asked(rng.choice(askable(scene)[kind]), scene, split, picture)
        if kind == "exists":
            near = rng.choice(("present", "present", "present", "colour", "shape", "other"))
            one = replace(one, question=rng.choice(probes_by_closeness(scene)[near]))
        elif kind == "related":
            wanted = rng.choice(("yes", "no"))
            fitting = [replace(one, question=question) for question in askable(scene)[kind]]
            one = rng.choice([other for other in fitting if other.judge(wanted).correct])
        yield one
