"""The built-in world's test of hallucination: its questions, and its measures against counts by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from mmpo.shapes.asked import Asked, drawn, exam
from mmpo.shapes.grammar import Item, parse
from mmpo.shapes.prompts import scenes, split_of
from mmpo.shapes.questions import Question, describe, exists, right_answers
from mmpo.shapes.verifier import verify
from pipelines.vlm_hallucination import compare, measure, table_lines

ONE, TWO = parse("a red circle above a blue square"), parse("a green cross left of a cyan triangle")


def asked(scene, question: Question, defect: str | None = None) -> Asked:
    """A question of no split about a scene."""
    return Asked(question, scene, "tune", 0, defect)


# (question, answer): two scenes with two descriptions, probes and other questions each
ROWS = [
    (asked(ONE, describe()), "a red circle above a blue square"),
    (asked(ONE, describe(2)), "at the top a red circle and at the bottom a green square"),  # colour; 1 of 2 false
    (asked(TWO, describe()), "a green cross left of a cyan triangle, with a red circle"),  # object; 1 of 3 false
    (asked(TWO, describe()), "what a picture"),  # unread
    (asked(ONE, exists(Item("red", "circle"))), "yes"),  # hit
    (asked(ONE, exists(Item("red", "square"))), "yes"),  # false, of a colour that is there
    (asked(ONE, exists(Item("cyan", "cross"))), "no"),
    (asked(TWO, exists(Item("green", "cross"))), "no"),  # missed
    (asked(TWO, exists(Item("cyan", "triangle"))), "yes"),  # hit
    (asked(TWO, exists(Item("red", "cross"))), "maybe"),  # unread, of a shape that is there
    (asked(ONE, Question("related", ("red", "above", "blue"))), "yes"),
    (asked(TWO, Question("related", ("green", "above", "cyan"))), "yes"),  # false
    (asked(ONE, Question("shape", ("red",))), "circle"),
    (asked(TWO, Question("count", ("objects",)), "extra"), "two"),  # false
]
EXAM, SAID = [row[0] for row in ROWS], [row[1] for row in ROWS]
VALUES = {
    "hallucinated": 3 / 4,  # the unread one counts
    "hallucinated/object": 1 / 4,
    "hallucinated/colour": 1 / 4,
    "hallucinated/shape": 0,
    "hallucinated/relation": 0,
    "false_mentions": 2 / 7,
    "covered": 5 / 8,
    "described": 1 / 4,
    "words": (7 + 13 + 12 + 3) / 4,
    "probes": 3 / 6,
    "probes/precision": 2 / 4,  # of two hits, a false yes and the unread one
    "probes/recall": 2 / 3,
    "probes/f1": 2 * 2 / (2 * 2 + 1 + 2),
    "probes/yes_ratio": 3 / 6,
    "probes/present": 2 / 3,
    "probes/colour": 0,
    "probes/shape": 0,
    "probes/other": 1,
    "relations": 1 / 2,
    "general": 1 / 2,
    "general/shape": 1,
    "general/count": 0,
    "unread": 2 / 14,
}


def test_measures_are_what_counting_by_hand_gives() -> None:
    table = measure(SAID, EXAM)
    assert {name: row["value"] for name, row in table.items()} == pytest.approx(VALUES)
    assert next(iter(table)) == "hallucinated"
    assert table["hallucinated"]["answers"] == 4
    assert table["probes"]["scenes"] == 2
    assert table["general/shape"]["scenes"] == 1
    assert (table["general/shape"]["low"], table["general/shape"]["high"]) == (None, None)
    better = {True: {"covered", "described", "relations"}, False: {"hallucinated/object", "false_mentions", "unread"}}
    assert all(table[name]["higher_is_better"] is value for value, names in better.items() for name in names)
    assert table["words"]["higher_is_better"] is None
    assert any(line.startswith("| general/shape | 1.000 [–, –] | 1 | 1 |") for line in table_lines(table))


def test_intervals_resample_scenes_and_not_answers() -> None:
    """Of two scenes, one all wrong and one all right, a draw is all wrong, half, or all right."""
    probes = [asked(scene, exists(Item("red", "circle"))) for scene in (ONE, TWO) for _ in range(50)]
    row = measure(["yes"] * 100, probes)["probes"]
    assert (row["value"], row["low"], row["high"]) == (0.5, 0.0, 1.0)


def test_differences_pair_the_scenes() -> None:
    """Both models differ by the same in every scene, so the difference has no spread though either has."""
    probes = [asked(scene, exists(Item("red", "circle"))) for scene in (ONE, TWO) for _ in range(4)]
    base = ["yes", "yes", "no", "no", "yes", "yes", "yes", "yes"]  # 2 of 4, 0 of 4 right
    tuned = ["yes", "yes", "yes", "no", "no", "yes", "yes", "yes"]  # 3 of 4, 1 of 4
    row = compare(base, tuned, probes)["probes"]
    assert (row["base"], row["tuned"], row["difference"], row["low"], row["high"]) == (0.25, 0.5, 0.25, 0.25, 0.25)
    assert (row["prompts"], row["samples"], row["higher_is_better"]) == (2, 8, True)
    assert compare(SAID, SAID, EXAM)["hallucinated"]["difference"] == 0


def test_a_measure_that_nothing_counts_towards_has_no_value() -> None:
    probe = [asked(scene, exists(Item("red", "square"))) for scene in (ONE, TWO)]
    table = measure(["no", "no"], probe)
    assert table["probes/precision"]["value"] is None
    assert table["probes"]["value"] == 1
    assert "probes/recall" not in compare(["no", "no"], ["yes", "no"], probe)
    with pytest.raises(ValueError, match="1 for 2 questions"):
        measure(["no"], probe)
    with pytest.raises(ValueError, match="no question"):
        measure([], [])


def test_the_exam_is_the_same_everywhere_and_stays_on_its_side() -> None:
    questions = exam("tune")
    assert questions == exam("tune")
    assert len(questions) == 16 * len(scenes("tune"))
    assert exam("tune", limit=3) == questions[:48]
    assert {split_of(one.scene) for one in exam("test", limit=20)} == {"test"}
    assert Counter(one.closeness for one in questions) == {
        "": 10 * 93, "present": 3 * 93, "colour": 93, "shape": 93, "other": 93,
    }  # fmt: skip
    truths = Counter(right_answers(one.question, one.scene)[0] for one in questions if one.question.kind == "related")
    assert truths == {"yes": 93, "no": 93}
    numbers = Counter(one.objects for one in questions if one.question == Question("count", ("objects",)))
    assert min(numbers.values()) > 12
    assert set(numbers) == {1, 2, 3}
    again = exam("tune", renders=2, limit=2)
    assert [one for one in again if one.seed == questions[0].seed] == questions[:32]
    first = questions[0]
    assert verify(first.image, right_answers(first.question, first.scene)[0]).correct


def test_drawn_questions_take_scenes_and_kinds_in_turn() -> None:
    kinds = ("describe", "exists", "related")
    found = list(drawn("train", 600, 3, kinds))
    assert found[:50] == list(drawn("train", 50, 3, kinds))
    assert found != list(drawn("train", 600, 4, kinds))
    assert [one.question.kind for one in found[:6]] == [*kinds, *kinds]
    assert [one.scene for one in found] == scenes("train")[:600]
    for kind in kinds[1:]:
        yes = [right_answers(one.question, one.scene)[0] == "yes" for one in found if one.question.kind == kind]
        assert 0.4 < sum(yes) / len(yes) < 0.6
    with pytest.raises(ValueError, match=r"kinds: smell; use some of describe"):
        next(drawn("train", 1, 0, ("smell",)))
