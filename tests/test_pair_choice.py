"""Which pairs are kept and why the others are not; pictures that are nearly the same; statistics of a corpus."""

from __future__ import annotations

import io
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpo.data import aggregate, pairing
from mmpo.data.corpus_statistics import Corpus, read_statistics, write_statistics
from mmpo.data.pair_choice import DROPPED, SELECTIONS, Choice, Ranked, choose
from mmpo.data.perceptual import distance, fingerprint, nearly_same
from mmpo.data.ranking import RULES, Rule, check_rule, values
from mmpo.shapes.prompts import scenes
from mmpo.shapes.render import render

NAN = float("nan")
CHOICES = st.builds(
    Choice,
    select=st.sampled_from(SELECTIONS),
    margin=st.sampled_from([0.0, 0.3, 1.0]),
    agreement=st.sampled_from([0.0, 0.5, 1.0]),
    floors=st.sampled_from([{}, {"r0": 0.0}]),
    limit=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 3),
)


@st.composite
def groups(draw: Any) -> Ranked:
    """A group of up to five candidates and three rewards, ranked by any rule."""
    count, rewards = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    numbers = st.one_of(st.integers(-2, 2).map(float), st.just(NAN))
    scores = np.array(
        draw(st.lists(st.lists(numbers, min_size=rewards, max_size=rewards), min_size=count, max_size=count))
    )
    by = draw(st.sampled_from(["win_rate", "bradley_terry", "pareto", "score"]))
    found = values(scores, Rule(by, tuple("abc"[:rewards])))
    return Ranked(
        id=str(draw(st.integers(0, 9))),
        values=[None if math.isnan(x) else x for x in found.tolist()],
        scores={"r0": [None if math.isnan(x) else x for x in scores[:, 0].tolist()]},
        agreement=aggregate.agreement(scores).tolist(),
        contents=draw(st.lists(st.sampled_from("xyzw"), min_size=count, max_size=count)),
        layers=aggregate.pareto_layers(scores).tolist(),
    )


@settings(deadline=None)
@given(groups(), CHOICES)
def test_counts_add_up_and_no_pair_breaks_a_rule(group: Ranked, choice: Choice) -> None:
    pairs, counts = choose(group, choice)
    assert counts["proposed"] == counts["kept"] + sum(counts[name] for name in DROPPED)
    assert min(counts.values(), default=0) >= 0
    assert len(pairs) == counts["kept"] == len({frozenset(pair) for pair in pairs})
    for a, b in pairs:
        assert pairing.gap(group.values, (a, b)) > choice.margin
        assert not group.agreement[a][b] < choice.agreement
        assert group.contents[a] != group.contents[b]
        for name, least in choice.floors.items():
            assert group.scores[name][a] is not None
            assert group.scores[name][a] >= least  # type: ignore[operator]
    if choice.select == "best_worst" or choice.limit:
        assert len(pairs) <= (1 if choice.select == "best_worst" else choice.limit or 1)


@settings(deadline=None)
@given(groups(), CHOICES)
def test_all_is_every_pair_that_the_rules_leave(group: Ranked, choice: Choice) -> None:
    """Against a double loop; what other selections keep is among them."""
    every = Choice("all", choice.margin, choice.agreement, choice.floors)
    expected = set()
    for a, b in itertools.permutations(pairing.scored(group.values), 2):
        share, first = group.agreement[a][b], group.scores["r0"][a]
        fine = pairing.gap(group.values, (a, b)) > choice.margin and not (choice.agreement and share < choice.agreement)
        fine = fine and not math.isnan(share)
        fine = fine and ("r0" not in choice.floors or (first is not None and first >= 0))
        if fine and group.contents[a] != group.contents[b]:
            expected.add((a, b))
    assert set(choose(group, every)[0]) == expected
    assert set(choose(group, choice)[0]) <= expected


def ranked(values: Sequence[float | None], **more: Any) -> Ranked:
    count = len(values)
    table = [[float(i < j) for j in range(count)] for i in range(count)]
    return Ranked("g", values, {}, table, more.pop("contents", [str(i) for i in range(count)]), **more)


def test_random_pairs_depend_on_seed_and_group_alone() -> None:
    group = ranked([3.0, 2.0, 1.0, 0.0])
    draws = {seed: choose(group, Choice("random", seed=seed))[0] for seed in range(40)}
    assert draws == {seed: choose(group, Choice("random", seed=seed))[0] for seed in range(40)}
    assert {pair for pairs in draws.values() for pair in pairs} == set(itertools.combinations(range(4), 2))
    assert all(len(pairs) == 1 for pairs in draws.values())
    assert len(choose(group, Choice("random", limit=4))[0]) == 4


def test_layers_are_top_against_bottom() -> None:
    scores = np.array([[3.0, 1.0], [1.0, 3.0], [0.5, 0.5], [0.0, 0.0]])
    layers = aggregate.pareto_layers(scores).tolist()
    assert layers == [0, 0, 1, 2]
    group = ranked(aggregate.win_rate(scores).tolist(), layers=layers)
    assert sorted(choose(group, Choice("layers"))[0]) == [(0, 3), (1, 3)]
    flat = ranked([1.0, 1.0], layers=[0, 0])
    assert choose(flat, Choice("layers")) == (
        [],
        {"ties": 0, "proposed": 0, "kept": 0} | dict.fromkeys(("not compared", "same image", "limit"), 0),
    )


def test_a_difference_by_rounding_is_a_tie() -> None:
    """Thirds and halves summed in another order are 2⁻⁵³ apart, and not one better than the other."""
    scores = np.array([[2.0, 0], [3, 3], [0, 3], [1, 0]])  # the first and third: (2/3 + 1/6) / 2 and (0 + 5/6) / 2
    assert len(set(aggregate.win_rate(scores)[[0, 2]])) == 2
    found = values(scores, Rule("win_rate", ("a", "b")))
    assert choose(ranked(found[[0, 2]].tolist()), Choice("all"))[1]["ties"] == 1
    near = ranked([0.6, 0.4])
    assert 0.6 - 0.4 < 0.2 < 0.8 - 0.6 + 1e-9
    assert not choose(near, Choice(margin=0.2))[0]
    assert not choose(ranked([0.8, 0.6]), Choice(margin=0.2))[0], "more than the margin by rounding only"


def test_limits_hold_as_they_are_written() -> None:
    """7 of 9 votes are 0.777...7, and 7 / 9 is 0.777...8; scores are kept as float32, where 0.7 is 0.69999999."""
    seven = aggregate.agreement(np.array([[1.0] * 7 + [0.0] * 2, [0.0] * 7 + [1.0] * 2])).tolist()
    group = Ranked("g", [1.0, 0.0], {"r": [float(np.float32(0.7)), 0.0]}, seven, ["x", "y"])
    assert choose(group, Choice(agreement=7 / 9))[0]
    assert choose(group, Choice(floors={"r": 0.7}))[0]
    assert not choose(group, Choice(floors={"r": 0.7001}))[0]


def test_all_pairs_of_a_large_group_take_no_time() -> None:
    """Largest differences first; only a limit needs them spread over the candidates, which is cubic."""
    group = ranked([float(k * k) for k in range(256)])
    began = time.process_time()
    pairs, _ = choose(group, Choice("all"))
    assert time.process_time() - began < 2, "0.1 s; 12 s where they are spread"
    assert pairs[:3] == [(255, 0), (255, 1), (255, 2)]
    assert len(pairs) == 256 * 255 // 2


def test_rules_are_checked() -> None:
    for by in RULES:
        check_rule(by, 1 if by == "score" else 2)
    with pytest.raises(ValueError, match="--by pareto weighs rewards against each other"):
        check_rule("pareto", 1)


# ---------------------------------------------------------------------------------------------------- near pictures


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def test_copies_are_near_and_other_pictures_of_the_built_in_world_are_not() -> None:
    """A third of the pictures with one object too many have the same hash; their colours tell them apart."""
    same, hashed = 0, 0
    for scene in scenes("train")[:60]:
        picture = render(scene, 1)
        seen = fingerprint(picture)
        large = picture.resize((256, 256), Image.Resampling.BICUBIC)
        assert nearly_same(seen, fingerprint(large))
        assert nearly_same(fingerprint(large), fingerprint(as_jpeg(large, 60)))
        same += nearly_same(seen, fingerprint(as_jpeg(picture, 95)))
        others = [render(scene, 2), *(render(scene, 1, defect=name) for name in ("missing", "extra", "scribbles"))]
        assert not any(nearly_same(seen, fingerprint(other)) for other in others)
        hashed += distance(seen.hash, fingerprint(others[2]).hash) <= 4
    assert same >= 57
    assert hashed > 10, "colours were not needed"


def test_pictures_without_content_are_compared_by_colour() -> None:
    rng = np.random.default_rng(0)
    black, noisy = np.zeros((64, 64, 3)), rng.integers(0, 7, (64, 64, 3))
    prints = [fingerprint(Image.fromarray(x.astype(np.uint8))) for x in (black, noisy, black + 60)]
    assert nearly_same(prints[0], prints[1])
    assert not nearly_same(prints[0], prints[2])


# ------------------------------------------------------------------------------------------------------- statistics


def test_statistics_in_batches_are_those_of_the_whole(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(20, 3, (1000, 2))
    scores[::7, 1] = NAN
    corpus = Corpus(["a", "b", "c"])
    whole = np.column_stack([scores, np.full(1000, NAN)])
    for chunk in np.array_split(whole, [0, 1, 40, 700]):
        corpus.add(chunk)
    found = corpus.result()
    assert found["a"] == pytest.approx((scores[:, 0].mean(), scores[:, 0].std(), 1000))
    kept = scores[~np.isnan(scores[:, 1]), 1]
    assert found["b"] == pytest.approx((kept.mean(), kept.std(), len(kept)))
    assert found["c"] == (0, 0, 0)
    write_statistics(tmp_path / "s.json", found)
    assert read_statistics(tmp_path / "s.json", ["b", "a"]) == [found["b"], found["a"]]


def test_statistics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    with pytest.raises(ValueError, match=r"no such file; .*--write-statistics"):
        read_statistics(file, ["a"])
    for text, said in (("{", "not JSON"), ("{}", "nothing of 'a'; it has none"), ('{"a": {"mean": 1}}', "std None")):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_statistics(file, ["a"])
