"""Batches of rows that are about as long: less padding, in an order that only a seed decides."""

from __future__ import annotations

import random
from collections.abc import Sequence


def length_groups(
    lengths: Sequence[tuple[int, int]], batch_size: int, *, seed: int, epoch: int = 0, window: int = 32
) -> list[list[int]]:
    """The rows of an epoch in batches of similar length.

    The rows are shuffled and cut into windows of `window` batches; within a window they are sorted by their image
    tokens, then by length, and cut into batches, whose order is shuffled. So what stands together changes with every
    epoch, and any number of processes sees the same.

    Args:
        lengths: per row (image tokens, all tokens).
        batch_size: rows of a batch; the last one of the last window may have fewer, and is never put elsewhere than
            whole batches are.
        window: batches that are sorted together; 1 is a plain shuffle, more pads less and mixes less.
    Returns:
        Batches of row numbers; each row is in one of them, once.
    Raises:
        ValueError: a batch size or window below 1.
    """
    for name, value in (("batch_size", batch_size), ("window", window)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    draw = random.Random(f"length-groups/{seed}/{epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * window):
        rows = order[start : start + batch_size * window]
        rows = sorted(rows, key=lambda row: lengths[row])  # stable: equal ones stay shuffled
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    draw.shuffle(batches)
    return batches
