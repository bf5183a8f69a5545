"""Batches of similar length."""

from __future__ import annotations

import random

import pytest

from mmpo.data.length_groups import length_groups

LENGTHS = [(576 * draw.randint(0, 2), draw.randint(20, 900)) for draw in [random.Random(0)] for _ in range(1003)]


def padding(batches: list[list[int]]) -> int:
    return sum(max(LENGTHS[row][1] for row in rows) - LENGTHS[row][1] for rows in batches for row in rows)


def test_every_row_is_in_one_batch_and_only_one_batch_is_short() -> None:
    batches = length_groups(LENGTHS, 8, seed=0)
    assert sorted(row for rows in batches for row in rows) == list(range(1003))
    assert sorted(map(len, batches)) == [3] + [8] * 125


def test_it_pads_less_than_a_plain_shuffle() -> None:
    assert padding(length_groups(LENGTHS, 8, seed=0)) < 0.2 * padding(length_groups(LENGTHS, 8, seed=0, window=1))


def test_images_come_first() -> None:
    mixed = [rows for rows in length_groups(LENGTHS, 8, seed=0) if len({LENGTHS[row][0] for row in rows}) > 1]
    assert len(mixed) <= 2 * 4  # at two borders of each of four windows


def test_the_order_is_of_seed_and_epoch_and_not_by_length() -> None:
    first = length_groups(LENGTHS, 8, seed=0)
    assert first == length_groups(LENGTHS, 8, seed=0)
    others = [length_groups(LENGTHS, 8, seed=1), length_groups(LENGTHS, 8, seed=0, epoch=1)]
    assert all({frozenset(rows) for rows in first} != {frozenset(rows) for rows in other} for other in others)
    longest = [max(LENGTHS[row][1] for row in rows) for rows in first]
    assert longest != sorted(longest)


def test_no_rows_and_bad_sizes() -> None:
    assert length_groups([], 8, seed=0) == []
    for wrong in ({"batch_size": 0}, {"batch_size": 2, "window": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            length_groups(LENGTHS, seed=0, **wrong)
