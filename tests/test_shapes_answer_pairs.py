"""Preferences of the built-in world's answers: right over wrong, and pictures for which the right answer is wrong."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import pytest
from PIL import Image

from mmpo.answer_pairs import AnswerPair
from mmpo.shapes.answer_pairs import answer_pairs, distance, own_answer_pairs, rejected_picture
from mmpo.shapes.answers import judge
from mmpo.shapes.asked import Asked
from mmpo.shapes.grammar import Item, Scene, all_scenes, captions, parse
from mmpo.shapes.prompts import scenes, split_of
from mmpo.shapes.questions import TEMPLATES, Question, describe, exists, question_of
from mmpo.shapes.verifier import verify

SCENES = {scene.key: scene for scene in all_scenes()}


def shown(data: bytes) -> Scene:
    """The scene that a clean picture shows, by the verifier of pictures."""
    image = Image.open(io.BytesIO(data))
    return next(scene for scene in all_scenes() if verify(image, captions(scene)[0]).correct)


def test_chosen_is_right_and_rejected_wrong_of_the_picture_and_chosen_wrong_of_the_other_picture() -> None:
    kinds = ("describe", "exists", "related", "where")
    rows, again = (list(answer_pairs("train", 24, seed=5, kinds=kinds)) for _ in range(2))
    assert rows == again
    assert len({row.id for row in rows}) == 24
    for number, row in enumerate(rows):
        question, scene = question_of(row.prompt.text), SCENES[row.prompt.key]
        assert row.turns[0].parts == (None, row.prompt.text)
        assert row.prompt.split == split_of(scene) == "train"
        assert judge(row.chosen, question, scene).correct
        assert row.rejected is not None
        verdict = judge(row.rejected, question, scene)
        assert verdict.parsed
        assert not verdict.correct
        assert row.rejected_images is not None
        if number >= 3:
            continue  # finding the scene of a picture takes long
        assert shown(row.images[0]) == scene
        other = shown(row.rejected_images[0])
        assert split_of(other) == "train"
        assert not judge(row.chosen, question, other).correct


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind_of_question_gives_pairs(kind: str) -> None:
    rows = list(answer_pairs("tune", 6, kinds=(kind,)))
    assert len(rows) == 6
    assert all(row.rejected_images for row in rows)


def test_pairs_without_pictures_are_rows_of_their_own() -> None:
    plain, full = (next(answer_pairs("train", 1, images=images)) for images in (False, True))
    assert plain.rejected_images is None
    assert (plain.chosen, plain.images) == (full.chosen, full.images)
    assert plain.id != full.id


def test_distance_counts_what_differs() -> None:
    scene = parse("a red circle above a blue square")
    far = {
        "a red circle above a blue cross": 1,
        "a green circle above a blue cross": 2,
        "a blue square above a red circle": 1,
    }
    far |= {
        "a red circle left of a blue square": 1,
        "a blue square left of a red circle": 2,
        "a red circle above a blue square": 0,
    }
    assert {text: distance(scene, parse(text)) for text in far} == far


def test_the_rejected_picture_is_a_near_one() -> None:
    rng = random.Random(0)
    for scene in scenes("train")[:20]:
        found = rejected_picture(Asked(describe(), scene, "train", 1), captions(scene)[0], rng)
        assert found is not None
        assert distance(scene, found.scene) == 1
    there = exists(scenes("train")[0].first)
    found = rejected_picture(Asked(there, scenes("train")[0], "train", 1), "yes", rng)
    assert found is not None
    assert scenes("train")[0].first not in (found.scene.first, found.scene.second)
    counted = Asked(Question("count", ("objects",)), scene, "train", 1)
    other = rejected_picture(counted, "two", rng)
    assert other is not None
    assert other.objects in (1, 3)


def test_own_answers_are_chosen_by_the_verifier() -> None:
    scene = parse("a red circle above a blue square")
    questions = [Asked(exists(Item("red", "circle")), scene, "train", n) for n in range(4)]
    said = [["yes", "no", "yes"], ["yes", "yes", "yes"], ["no", "no", "what"], ["", "yes", "hm"]]

    def answers(asked: Sequence[Asked], samples: int) -> list[list[str]]:
        assert (len(asked), samples) == (4, 3)
        return said

    rows: list[AnswerPair] = list(own_answer_pairs(questions, answers, samples=3))
    assert [(row.chosen, row.rejected) for row in rows] == [("yes", "no"), ("yes", "hm")]
    assert rows[0].scores == {"shapes": (1.0, 0.0)}
    with pytest.raises(ValueError, match="samples is 1"):
        next(own_answer_pairs(questions, answers, samples=1))


def test_longer_lists_begin_with_shorter_ones() -> None:
    few, many = (list(answer_pairs("train", count, images=False)) for count in (3, 8))
    assert many[:3] == few
