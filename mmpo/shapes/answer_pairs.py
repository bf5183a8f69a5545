"""Preferences between answers about the world's pictures, and between pictures for one answer. Imports no torch.

Without a model (`answer_pairs`), or from a model's own answers (`own_answer_pairs`), which the verifier chooses from.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from mmpo.answer_pairs import AnswerPair, Turn
from mmpo.records import Prompt, content_id
from mmpo.shapes.asked import OBJECTS, Asked, drawn
from mmpo.shapes.grammar import Scene, seedless_hash
from mmpo.shapes.prompts import scenes
from mmpo.shapes.questions import right_answers
from mmpo.shapes.wrong import CAPTION_FAULTS, caption, wrong_answer, wrong_caption

KINDS = ("describe", "describe", "exists", "related")
Answerer = Callable[[Sequence[Asked], int], Sequence[Sequence[str]]]


def distance(one: Scene, other: Scene) -> int:
    """In how many things two scenes differ: the axis, colour and shape of each object; a swapped order is one thing."""

    def apart(two: Scene) -> int:
        items = ((one.first, two.first), (one.second, two.second))
        return sum((a.colour != b.colour) + (a.shape != b.shape) for a, b in items) + (one.axis != two.axis)

    return min(apart(other), 1 + apart(other.mirror))


@lru_cache(maxsize=1024)
def _near(scene: Scene, split: str) -> tuple[Scene, ...]:
    """The split's other scenes, the nearest first, equally near ones in an order of the scene's own."""
    others = [other for other in scenes(split) if other != scene]
    return tuple(sorted(others, key=lambda other: (distance(scene, other), seedless_hash(other.key, scene.key))))


def rejected_picture(asked: Asked, answer: str, rng: random.Random) -> Asked | None:
    """The same question about another picture, as much like this one as can be, for which an answer is wrong.

    Its scene is on the same side of the split, one of the four nearest that will do. None where the answer is right of
    every scene. Of a number of objects, the same scene with another number.
    """
    if asked.defect is not None or (asked.question.kind == "count" and asked.question.about == ("objects",)):
        defects = [defect for defect in (None, *OBJECTS) if defect != asked.defect]
        others = [replace(asked, defect=defect, seed=asked.seed + 1) for defect in defects]
        fitting = [other for other in others if not other.judge(answer).correct]
        return rng.choice(fitting) if fitting else None
    found = []
    for scene in _near(asked.scene, asked.split):
        other = replace(asked, scene=scene)
        try:
            wrong = not other.judge(answer).correct
        except ValueError:  # the question takes for granted what is not there
            continue
        if wrong:
            found.append(other)
        if len(found) == 4:
            break
    return rng.choice(found) if found else None


def answer_pairs(
    split: str, count: int, *, seed: int = 0, kinds: Sequence[str] = KINDS, images: bool = True
) -> Iterator[AnswerPair]:
    """Pairs of a right answer and one with one thing wrong, in the same form of words.

    Args:
        split: the scenes come from there, in turn.
        count: how many pairs.
        seed: of everything drawn.
        kinds: of question, in turn.
        images: with a rejected picture, a similar one for which the right answer is wrong; else with None.
    """
    for number, asked in enumerate(drawn(split, count, seed, kinds)):
        rng = random.Random(f"answer pairs/{seed}/{number}")
        chosen, rejected = _both(asked, rng)
        yield _row(asked, chosen, rejected, rng, images, ("shapes answers", split, seed, number, tuple(kinds)))


def _both(asked: Asked, rng: random.Random) -> tuple[str, str]:
    question, scene = asked.question, asked.scene
    if question.kind != "describe":
        right = right_answers(question, scene, asked.objects)[0]
        return right, wrong_answer(question, scene, rng, asked.objects)
    start, fault = rng.randrange(2), rng.choice(CAPTION_FAULTS)
    return caption(scene, question.style, start), wrong_caption(scene, question.style, start, fault, rng)


def own_answer_pairs(
    questions: Sequence[Asked], answers: Answerer, *, samples: int, seed: int = 0, images: bool = True
) -> Iterator[AnswerPair]:
    """Pairs of a model's own answers: one that the verifier accepts, one that it does not, of the same question.

    Questions of which all answers are right, or all wrong, give no pair.

    Args:
        questions: such as `mmpo.shapes.asked.drawn` makes.
        answers: (questions, samples) -> that many answers to each, drawn with seeds of its own.
        samples: answers to each question, 2 or more.
        seed: of the choice among several.
        images: as of `answer_pairs`.
    """
    if samples < 2:
        raise ValueError(f"samples is {samples}; a pair needs at least 2 answers to a question")
    for asked, said in zip(questions, answers(questions, samples), strict=True):
        made = ("shapes own answers", asked.split, asked.seed, asked.question.text, asked.scene.key, seed)
        rng = random.Random(content_id(*made))
        verdicts = [asked.judge(answer).correct for answer in said]
        right = [answer for answer, correct in zip(said, verdicts, strict=True) if correct]
        wrong = [answer for answer, correct in zip(said, verdicts, strict=True) if not correct and answer.strip()]
        if right and wrong:
            chosen, rejected = rng.choice(right), rng.choice(wrong)
            yield _row(asked, chosen, rejected, rng, images, (*made, chosen, rejected))


def _row(
    asked: Asked, chosen: str, rejected: str, rng: random.Random, images: bool, made: tuple[object, ...]
) -> AnswerPair:
    other = rejected_picture(asked, chosen, rng) if images else None
    return AnswerPair(
        id=content_id(*made, images),
        prompt=Prompt(asked.question.text, asked.scene.key, asked.split),
        turns=(Turn("user", (None, asked.question.text)),),
        images=(_png(asked),),
        chosen=chosen,
        rejected=rejected,
        rejected_images=None if other is None else (_png(other),),
        scores={"shapes": (1.0, 0.0)},
        source="mmpo.shapes.answer_pairs",
    )


def _png(asked: Asked) -> bytes:
    file = io.BytesIO()
    asked.image.save(file, "PNG")
    return file.getvalue()
