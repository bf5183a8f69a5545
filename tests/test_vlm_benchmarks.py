"""Figures of benchmarks for vision-language models on small files, against values computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vlm_files
from vlm_files import AMBER_ANSWERS, CHAIR_ANSWERS, HALLUSION_ANSWERS, MMHAL_REPLIES, POPE_ANSWERS

from mmpo.training.statistics import clustered_mean
from pipelines.vlm_amber import described, read_amber, read_words, score_amber
from pipelines.vlm_chair import read_chair, score_chair
from pipelines.vlm_hallusion import read_hallusion, score_hallusion, verdict_of
from pipelines.vlm_intervals import Measure, Tally, Unit, differences, figures, mean, share
from pipelines.vlm_items import Item
from pipelines.vlm_mme import read_mme, score_mme
from pipelines.vlm_mmhal import counts, prompt, rating, read_mmhal, score_mmhal
from pipelines.vlm_objects import read_vocabulary, singulars
from pipelines.vlm_pope import read_pope, score_pope
from pipelines.vlm_yes_no import exact_answer, mme_answer, pope_answer, said


def values(tally: Tally) -> dict[str, float | None]:
    """Each measure's value, to four digits."""
    found = {name: row["value"] for name, row in figures(tally).items()}
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


def in_order(items: Sequence[Item], texts: Sequence[str]) -> dict[str, str]:
    """Answers by id."""
    return {item.id: text for item, text in zip(items, texts, strict=True)}


def by_id(texts: Mapping[int, str]) -> dict[str, str]:
    """The same of numbered ones."""
    return {str(name): text for name, text in texts.items()}


@pytest.mark.parametrize(
    ("text", "pope", "mme", "exact", "plain"),
    [
        ("Yes", "yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no", "no"),
        ("No, it is", "no", "no", "other", "no"),
        ("yes.", "yes", "yes", "other", "yes"),
        ("There is not.", "no", "other", "other", "unclear"),
        ("Not sure. No", "yes", "no", "other", "no"),
        ("Nothing, no", "no", "no", "other", "no"),
        ("I know", "yes", "other", "other", "unclear"),
        ("yes and no", "no", "yes", "other", "yes"),
        ("It says yes or no", "no", "other", "other", "unclear"),
        ("", "yes", "other", "other", "unclear"),
    ],
)
def test_each_benchmark_has_its_own_yes_and_no(text: str, pope: str, mme: str, exact: str, plain: str) -> None:
    assert (pope_answer(text), mme_answer(text), exact_answer(text), said(text)) == (pope, mme, exact, plain)


def test_pope(tmp_path: Path) -> None:
    """TP, TN, FN, FP one each; the third holds a yes after the first sentence, the fourth is neither."""
    items = read_pope([vlm_files.pope(tmp_path)])
    (tally,) = score_pope(items, in_order(items, POPE_ANSWERS)).values()
    assert values(tally) == {
        "accuracy": 50.0,
        "precision": 50.0,
        "recall": 50.0,
        "f1": 50.0,
        "yes ratio": 50.0,
        "neither yes nor no": 25.0,
        "words": 11 / 4,
    }
    row = figures(tally)["accuracy"]  # image a has both right, b none: resampled to 0, 50 or 100
    assert (row["low"], row["high"], row["clusters"]) == (0.0, 100.0, 2)


def test_pope_of_several_files_has_a_part_for_each(tmp_path: Path) -> None:
    items = read_pope([vlm_files.pope(tmp_path, name) for name in ("coco_pope_random", "coco_pope_popular")])
    texts = in_order(items, [*POPE_ANSWERS, "Yes", "No", "Yes", "No"])
    found = {name: values(tally)["accuracy"] for name, tally in score_pope(items, texts).items()}
    assert found == {"coco_pope_random": 50.0, "coco_pope_popular": 100.0, "all": 75.0}


def test_what_is_not_defined_is_none(tmp_path: Path) -> None:
    items = read_pope([vlm_files.pope(tmp_path)])
    (tally,) = score_pope(items, in_order(items, ["no"] * 4)).values()
    assert values(tally)["precision"] is None
    assert values(tally)["f1"] == 0
    (lone,) = score_pope(items[:1], {items[0].id: "Yes"}).values()
    assert figures(lone)["accuracy"]["low"] is None


def test_mme(tmp_path: Path) -> None:
    """existence: 3 of 4 right, one of two images wholly; color: nothing right."""
    items = read_mme([vlm_files.mme(tmp_path)])
    answers = {"existence": ["yes", "No, there is none", "Yes.", "I see"], "color": ["no", "yes"]}
    texts = {item.id: answers[item.group][int(item.id.split("/")[1]) - 1] for item in items}
    found = score_mme(items, texts)
    assert list(found) == ["color", "existence", "perception"]
    first = values(found["existence"])
    assert [first[name] for name in ("score", "accuracy", "accuracy+", "neither yes nor no")] == [
        125.0,
        75.0,
        50.0,
        25.0,
    ]
    assert values(found["color"])["score"] == 0
    assert values(found["perception"]) == {"score of 2 tasks": 125.0}
    row = figures(found["perception"])["score of 2 tasks"]  # existence's images give 200 and 50
    assert (row["low"], row["high"]) == (50.0, 200.0)


def test_chair(tmp_path: Path) -> None:
    """5 + 1 + 0 mentions, 2 wrong, in one text of three; 3 + 1 + 0 of 3 + 1 + 1 objects are found."""
    (tmp_path / "synonyms.txt").write_text(vlm_files.SYNONYMS)
    items = read_chair([vlm_files.coco(tmp_path / "coco")])
    (tally,) = score_chair(items, by_id(CHAIR_ANSWERS), read_vocabulary(tmp_path / "synonyms.txt")).values()
    assert values(tally) == {
        "CHAIR_s": 33.3333,
        "CHAIR_i": 33.3333,
        "recall": 80.0,
        "wrong of those naming objects": 50.0,
        "objects named": 2.0,
        "words": round((16 + 2 + 3) / 3, 4),
    }


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("Dogs, a Dog and a puppy", ["dog", "dog", "dog"]),
        ("a baby and a baby bear", ["person", "bear"]),
        ("an adult cub", ["bear"]),
        ("a baby table", ["person", "dining table"]),
        ("women with knives in buses", ["person", "knife", "bus"]),
        ("two wine glasses on dining tables", ["wine glass", "dining table"]),
        ("teddy bears", ["teddy bear"]),
        ("a seat", ["chair"]),
        ("a toilet and a seat", ["toilet"]),
        ("at the home plate", []),
        ("a plate at home", ["bowl"]),
        ("a hotdog stand", []),
    ],
)
def test_objects_that_a_text_names(tmp_path: Path, text: str, objects: list[str]) -> None:
    (tmp_path / "synonyms.txt").write_text(vlm_files.SYNONYMS)
    assert read_vocabulary(tmp_path / "synonyms.txt").mentions(text) == objects


def test_singulars_and_files_of_words_that_cannot_be(tmp_path: Path) -> None:
    assert "bus" in set(singulars("buses"))
    assert list(singulars("glass")) == ["glass"]
    for text, message in (("dog, puppy\ncat, puppy\n", "stands for cat and for dog"), ("\n", "is empty")):
        (tmp_path / "words.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_vocabulary(tmp_path / "words.txt")


def test_amber(tmp_path: Path) -> None:
    """Nouns: image (safe), puppy (a dog), cat (imagined), ball; couch (a sofa)."""
    folder = vlm_files.amber(tmp_path)
    found = score_amber(read_amber([folder]), by_id(AMBER_ANSWERS), read_words(folder))
    assert list(found) == ["descriptions", "yes/no", "existence", "attribute", "state", "relation", "AMBER"]
    first = values(found["descriptions"])
    assert [first[name] for name in ("CHAIR", "Cover", "Hal", "Cog")] == [40.0, 66.6667, 50.0, 50.0]
    every = values(found["yes/no"])
    assert [every[name] for name in ("accuracy", "precision", "recall", "f1")] == [40.0, 50.0, 33.3333, 40.0]
    assert every["neither Yes nor No"] == 20.0
    some = values(found["existence"])
    assert [some[name] for name in ("accuracy", "precision", "recall", "f1")] == [50.0, 100.0, 50.0, 66.6667]
    assert values(found["AMBER"]) == {"score": 50.0}


def test_ambers_words_can_be_found_by_other_means(tmp_path: Path) -> None:
    from dataclasses import replace

    words = read_words(vlm_files.amber(tmp_path))
    near = replace(
        words, nouns=lambda text: ["ball", "tree"], similar=lambda one, other: {one, other} == {"ball", "dog"}
    )
    found = described("whatever", {"truth": ["dog"], "hallu": ["cat"]}, near)
    assert (found["nouns"], found["wrong"], found["covered"], found["named"]) == (1, 0, 1, 0)
    found = described("whatever", {"truth": ["cat"], "hallu": ["dog"]}, near)
    assert (found["wrong"], found["covered"], found["named"]) == (1, 0, 1)


def test_hallusion_bench_without_a_judge(tmp_path: Path) -> None:
    """Right are rows 1, 2, 4, 5; questions: one of three; figures: one of three.

    Easy is what asks about no figure or an unchanged one (visual_input 0 or 1), whatever its number: two of three.
    Hard is what asks about a changed one (visual_input 2): one of two.
    """
    items = read_hallusion([vlm_files.hallusion(tmp_path)])
    found = score_hallusion(items, in_order(items, HALLUSION_ANSWERS))
    every = values(found["all"])
    assert {name: every[name] for name in ("aAcc", "qAcc", "fAcc", "easy", "hard")} == {
        "aAcc": 66.6667,
        "qAcc": 33.3333,
        "fAcc": 33.3333,
        "easy": 66.6667,
        "hard": 50.0,
    }
    assert values(found["VD"])["aAcc"] == 75.0
    assert values(found["VS"])["fAcc"] == 0.0
    assert figures(found["all"])["aAcc"]["clusters"] == 2
    assert [item.image for item in items[3:5]] == ["VD/chart/0_1.png", ""]


def test_hallusion_bench_with_a_judge(tmp_path: Path) -> None:
    items = read_hallusion([vlm_files.hallusion(tmp_path)])
    replies = ["Correct.", "it is incorrect", "CORRECT", "correct", "no idea", None]
    asked: list[str] = []

    def judge(prompts: Sequence[tuple[str, str]]) -> list[str | None]:
        asked.extend(text for _, text in prompts)
        return replies

    found = score_hallusion(items, in_order(items, HALLUSION_ANSWERS), judge)
    assert values(found["all"])["aAcc"] == round(100 * 4 / 6, 4)
    assert "Reference answer: Yes\nAnswer: Yes\n" in asked[0]
    assert [verdict_of(reply) for reply in replies] == [
        "correct",
        "incorrect",
        "correct",
        "correct",
        "unclear",
        "unclear",
    ]


def test_mmhal_bench(tmp_path: Path) -> None:
    """Ratings 6, 2 and, of two in one reply, 0; informativeness (3 + 2 + 0) / 3 / 3."""
    items = read_mmhal([vlm_files.mmhal(tmp_path)])
    found = score_mmhal(items, in_order(items, ["a b", "c", "d"]), lambda asked: MMHAL_REPLIES)
    assert list(found) == ["all", "attribute", "counting"]
    assert values(found["all"]) == {
        "score": 2.6667,
        "hallucination rate": 66.6667,
        "informativeness": 55.5556,
        "rating not found": 33.3333,
        "words": 1.3333,
    }
    assert values(found["attribute"])["score"] == 4.0
    assert [rating(reply) for reply in (*MMHAL_REPLIES, "", "RATING: 0.")] == [6, 2, None, None, 0]
    assert "A person's answer: A {dog}." in prompt(items[0], "x {y}")
    assert [counts(f"Rating: {n}", "")["wrong"] for n in (2, 3)] == [1, 0]
    assert counts("Rating: 3", "")["informative"] == 0
    with pytest.raises(ValueError, match="replied to none of 3"):
        score_mmhal(items, in_order(items, ["a", "b", "c"]), lambda asked: [None] * 3)


def test_intervals_agree_with_the_clustered_mean() -> None:
    generator = np.random.default_rng(3)
    clusters = [str(one) for one in generator.integers(0, 80, 400)]
    right = (generator.random(400) < 0.7).astype(float)
    tally = Tally(
        [Unit(c, {"right": r, "n": 1.0}) for c, r in zip(clusters, right, strict=True)],
        {"x": Measure(share("right", "n"))},
    )
    row, expected = figures(tally)["x"], clustered_mean(right, clusters)
    assert row["value"] == pytest.approx(100 * expected.mean)
    assert row["low"] == pytest.approx(100 * expected.low, abs=0.6)
    assert row["high"] == pytest.approx(100 * expected.high, abs=0.6)


def test_clusters_are_drawn_within_their_stratum() -> None:
    """One cluster each: there is nothing to choose from."""
    units = [Unit("a", {"sum": 1.0, "n": 1.0}, "first"), Unit("b", {"sum": 3.0, "n": 1.0}, "second")]
    row = figures(Tally(units, {"x": Measure(mean("sum", "n"), "points")}))["x"]
    assert (row["value"], row["low"], row["high"]) == (2.0, 2.0, 2.0)


def test_differences_draw_the_same_images_for_both_sides() -> None:
    """Each image gains exactly one point of ten, so the difference has no width though the figures have."""
    measures = {"x": Measure(mean("sum", "n"), "points")}
    base = Tally([Unit(str(n), {"sum": float(n % 7), "n": 1.0}) for n in range(50)], measures)
    tuned = Tally([Unit(str(n), {"sum": n % 7 + 1.0, "n": 1.0}) for n in range(50)], measures)
    row = differences(base, tuned)["x"]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((1.0, 1.0, 1.0))
    wide = figures(base)["x"]
    assert wide["high"] - wide["low"] > 0.5
    with pytest.raises(ValueError, match="not about the same images"):
        differences(base, Tally(tuned.units[:9], measures))


BROKEN: list[tuple[Any, str, str]] = [
    (read_pope, '{"image": "a.jpg", "text": "?", "label": "maybe"}', "expected yes or no"),
    (read_pope, '{"image": "a.jpg", "text": "?"}', "has no 'label'"),
    (read_mme, "1.jpg\tIs it?\tYes\n", "1 questions about q/1.jpg"),
    (read_mme, "1.jpg\tIs it?\n", "2 cells between tabs"),
    (read_chair, '{"image": "a.jpg"}', "'objects' is no list"),
    (read_hallusion, '{"category": "VD"}', "has no 'subcategory'"),
    (read_mmhal, '{"question": "What?"}', "has no 'gt_answer'"),
]


@pytest.mark.parametrize(("read", "text", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_files_of_another_kind_are_refused_by_line(tmp_path: Path, read: Any, text: str, message: str) -> None:
    file = tmp_path / ("q.txt" if read is read_mme else "q.jsonl")
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read([file])
    assert str(file) in str(caught.value)
