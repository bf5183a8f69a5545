"""Held-out pairs: no prompt on both sides, and the same choice whatever the order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mmpo.data.encoding import EncodedRow
from mmpo.data.split import hold_out
from mmpo.records import Prompt


def rows_of(clusters: Sequence[str], splits: Sequence[str] | None = None) -> list[EncodedRow]:
    """An index with these keys; the prompt's text differs in every row, as paraphrases do."""
    sides = splits or [""] * len(clusters)
    return [
        EncodedRow(f"id{i}", Prompt(f"text {i}", key=key, split=side), ("x", "y"), f"row {i}")
        for i, (key, side) in enumerate(zip(clusters, sides, strict=True))
    ]


def ids(rows: Sequence[EncodedRow]) -> list[str]:
    """For comparisons that a failed test can print."""
    return [row.id for row in rows]


CLUSTERS = st.lists(st.sampled_from("abcdefgh"), max_size=60)


@given(CLUSTERS, st.integers(0, 40))
def test_no_cluster_is_on_both_sides_and_at_most_a_fifth_is_held_out(clusters: list[str], pairs: int) -> None:
    rows = rows_of(clusters)
    train, held = hold_out(rows, pairs)
    assert sorted(ids(train) + ids(held)) == sorted(ids(rows))
    assert not {row.prompt.cluster for row in train} & {row.prompt.cluster for row in held}
    assert len(held) <= min(pairs, len(rows) / 5)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert sorted(ids(hold_out(shuffled, pairs)[1])) == sorted(ids(held))


def test_enough_prompts_give_as_many_pairs_as_asked_for() -> None:
    rows = rows_of([f"scene {i}" for i in range(100)])
    assert len(hold_out(rows, 7)[1]) == 7
    assert len(hold_out(rows, 64)[1]) == 20
    assert hold_out(rows, 0) == (rows, [])


def test_copies_of_a_prompt_without_a_key_are_one_cluster() -> None:
    rows = [EncodedRow(f"id{i}", Prompt(text), ("x", "y"), "") for i, text in enumerate(["A cat", "a  CAT "] * 10)]
    assert hold_out(rows, 4) == (rows, [])


def test_the_order_of_holding_out_is_by_hash_not_by_position() -> None:
    rows = rows_of([f"scene {i}" for i in range(50)])
    assert ids(hold_out(rows, 5)[1]) not in (ids(rows[:5]), ids(rows[-5:]))


@given(CLUSTERS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_a_split_column_decides_and_its_clusters_leave_training(
    clusters: list[str], pairs: int, rng: random.Random
) -> None:
    sides = [rng.choice(["", "train", "train", "test", "validation"]) for _ in clusters]
    rows = rows_of(clusters, sides)
    others = [row for row in rows if row.prompt.split == "validation"]
    elsewhere = {row.prompt.cluster for row in rows if row.prompt.split in ("test", "validation")}
    train, held = hold_out(rows, pairs)
    assert {row.prompt.split for row in train} <= {"", "train"}
    assert "test" not in {row.prompt.split for row in held}
    assert not {row.prompt.cluster for row in train} & elsewhere
    assert not {row.prompt.cluster for row in train} & {row.prompt.cluster for row in held}
    if others:
        assert set(ids(held)) <= set(ids(others))
        assert len(held) == min(pairs, len(others))
    assert sorted(ids(hold_out(rows[::-1], pairs)[1])) == sorted(ids(held))
