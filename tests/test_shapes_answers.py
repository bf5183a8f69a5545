"""Questions about a scene and the verifier of answers: hand-made answers, and wrong ones of every kind."""

from __future__ import annotations

import random

import pytest

from mmpo.shapes.answers import answer_words, judge, read_description
from mmpo.shapes.grammar import AXES, Item, all_scenes, captions, parse
from mmpo.shapes.questions import (
    TEMPLATES,
    Question,
    all_questions,
    askable,
    closeness,
    describe,
    exists,
    question_of,
    right_answers,
)
from mmpo.shapes.wrong import CAPTION_FAULTS, caption, wrong_answer, wrong_caption

SCENE = parse("a red circle above a blue square")
# answer: correct, faults, objects named, of these not there, objects covered
DESCRIPTIONS = {
    "a red circle above a blue square": (True, (), 2, 0, 2),
    "A blue square below a red circle.": (True, (), 2, 0, 2),
    "at the top a red circle and at the bottom a blue square": (True, (), 2, 0, 2),
    "at the bottom a blue square and at the top a red circle": (True, (), 2, 0, 2),
    "a red circle below a blue square": (False, ("relation",), 2, 0, 2),
    "a red circle left of a blue square": (False, ("relation",), 2, 0, 2),
    "at the top a blue square and at the bottom a red circle": (False, ("relation",), 2, 0, 2),
    "at the top a red circle and on the right a blue square": (False, ("relation",), 2, 0, 2),
    "a green circle above a blue square": (False, ("colour",), 2, 1, 1),
    "a red cross above a blue square": (False, ("shape",), 2, 1, 1),
    "a green cross above a blue square": (False, ("object",), 2, 1, 1),
    "a red square above a blue circle": (False, ("shape", "shape"), 2, 2, 0),
    "a green circle below a blue square": (False, ("colour", "relation"), 2, 1, 1),
    "a red circle above a blue square, with a green cross": (False, ("object",), 3, 1, 2),
    "a red circle above a blue square and a green cross": (False, ("object",), 3, 1, 2),
    "a red circle, a blue square": (False, (), 2, 0, 2),
    "a red circle": (False, (), 1, 0, 1),
    "a red circle above a red circle": (False, ("object",), 2, 1, 1),
}
UNREADABLE = ("", "a circle", "red above blue", "yes", "a red circle above", "I see a red circle", "a a red circle")
SHORT = [
    (exists(Item("red", "circle")), "Yes, there is.", True, ()),
    (exists(Item("red", "circle")), "no", False, ()),  # a denial is wrong, and says nothing that is not so
    (exists(Item("red", "square")), "yes", False, ("object",)),
    (exists(Item("red", "square")), "No.", True, ()),
    (Question("related", ("red", "above", "blue")), "yes", True, ()),
    (Question("related", ("blue", "above", "red")), "yes", False, ("relation",)),
    (Question("related", ("blue", "left of", "red")), "no", True, ()),
    (Question("colour", ("circle",)), "it is red", True, ()),
    (Question("colour", ("object at the bottom",)), "red", False, ("colour",)),
    (Question("shape", ("blue",)), "square", True, ()),
    (Question("shape", ("blue",)), "cross", False, ("shape",)),
    (Question("where", ("blue",)), "at the bottom", True, ()),
    (Question("where", ("blue",)), "on the left", False, ("relation",)),
    (Question("relative", ("blue", "red")), "below", True, ()),
    (Question("relative", ("blue", "red")), "above", False, ("relation",)),
    (Question("count", ("objects",)), "2", True, ()),
    (Question("count", ("circles",)), "two", False, ("count",)),
    (Question("count", ("crosses",)), "zero", True, ()),
]


@pytest.mark.parametrize("answer", DESCRIPTIONS)
def test_a_description_is_held_against_the_scene(answer: str) -> None:
    verdict = judge(answer, describe(), SCENE)
    found = (verdict.correct, verdict.faults, verdict.mentions, verdict.false_mentions, verdict.covered)
    assert (verdict.parsed, *found) == (True, *DESCRIPTIONS[answer])
    assert verdict.hallucinated == bool(verdict.faults)


@pytest.mark.parametrize("answer", UNREADABLE)
def test_what_is_no_description_is_wrong_and_said_to_be_unread(answer: str) -> None:
    verdict = judge(answer, describe(2), SCENE)
    assert (verdict.parsed, verdict.correct, verdict.mentions) == (False, False, 0)
    assert read_description(answer) is None


@pytest.mark.parametrize(("question", "answer", "correct", "faults"), SHORT, ids=lambda value: str(value)[:40])
def test_a_short_answer_is_held_against_the_scene(
    question: Question, answer: str, correct: bool, faults: tuple[str, ...]
) -> None:
    verdict = judge(answer, question, SCENE)
    assert (verdict.parsed, verdict.correct, verdict.faults) == (True, correct, faults)


@pytest.mark.parametrize("kind", [kind for kind in TEMPLATES if kind != "describe"])
def test_a_short_answer_that_says_nothing_or_two_things_is_unread(kind: str) -> None:
    question = askable(SCENE)[kind][0]
    two = " ".join(answer_words(kind)[:2])
    assert not judge("perhaps", question, SCENE).parsed
    assert judge(two, question, SCENE).parsed == (kind in ("exists", "related"))  # the first word is the answer


def test_a_spoilt_picture_is_only_counted() -> None:
    how_many = Question("count", ("objects",))
    assert [judge("three", how_many, SCENE, number).correct for number in (1, 2, 3)] == [False, False, True]
    with pytest.raises(ValueError, match="spoilt"):
        judge("a red circle", describe(), SCENE, 3)


def test_all_that_is_right_is_judged_right_and_all_questions_are_read_back() -> None:
    questions = all_questions()
    assert len({question.text for question in questions}) == len(questions)
    for question in questions:
        assert question_of(f"  {question.text.upper()} ") == question
    with pytest.raises(ValueError, match="'Is it art\\?' is none"):
        question_of("Is it art?")
    for scene in all_scenes()[::7]:
        for kind, asked in askable(scene).items():
            assert asked, kind
            for question in asked:
                answers = right_answers(question, scene)
                assert all(judge(answer, question, scene).correct for answer in answers)
                if kind == "describe":
                    assert set(answers) <= set(captions(scene))


def test_a_question_that_takes_for_granted_what_is_not_there_is_refused() -> None:
    twice = parse("a red circle above a blue circle")
    for about in ("circle", "square", "object on the left"):
        with pytest.raises(ValueError, match="there is not one"):
            right_answers(Question("colour", (about,)), twice)
    with pytest.raises(ValueError, match="not one 'green'"):
        right_answers(Question("related", ("red", "above", "green")), twice)


def test_wrong_answers_have_the_fault_that_was_asked_for() -> None:
    rng = random.Random(0)
    for scene in all_scenes()[::5]:
        for style in ("relation", "place"):
            for start in (0, 1):
                right = caption(scene, style, start)
                assert right in captions(scene)
                for fault in CAPTION_FAULTS:
                    verdict = judge(wrong_caption(scene, style, start, fault, rng), describe(), scene)
                    assert set(verdict.faults) == {fault}, (scene.key, fault)
        for kind, questions in askable(scene).items():
            question = rng.choice(questions)
            verdict = judge(wrong_answer(question, scene, rng), question, scene)
            assert verdict.parsed, kind
            assert not verdict.correct


def test_captions_name_the_chosen_object_first() -> None:
    forms = [caption(SCENE, style, start) for style in ("relation", "place") for start in (0, 1)]
    assert forms == [
        "a red circle above a blue square",
        "a blue square below a red circle",
        "at the top a red circle and at the bottom a blue square",
        "at the bottom a blue square and at the top a red circle",
    ]
    assert SCENE.axis == AXES[0]


def test_closeness() -> None:
    items = [("red", "circle"), ("red", "square"), ("blue", "cross"), ("green", "square"), ("cyan", "cross")]
    assert [closeness(Item(*item), SCENE) for item in items] == ["present", "colour", "colour", "shape", "other"]
