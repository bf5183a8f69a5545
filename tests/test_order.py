"""The order of groups: the same global batches however they are divided, every group once an epoch."""

from __future__ import annotations

from collections import Counter

import pytest

from mmpo.training.order import Plan


def seen(plan: Plan, step: int) -> list[tuple[int, int]]:
    """(group, visit) of one process's step, in order."""
    return [pair for part in plan.micro_batches(step) for pair in zip(part.indices, part.visits, strict=True)]


@pytest.mark.parametrize(("processes", "micro"), [(1, 12), (1, 1), (1, 4), (2, 6), (2, 3), (3, 2), (4, 3), (12, 1)])
def test_every_split_computes_the_same_global_batch(processes: int, micro: int) -> None:
    """Twelve groups a step however they are divided: the ranks' micro-batches, interleaved, are the whole in order.

    Twelve of seven groups, so that steps run over the ends of epochs.
    """
    whole = Plan(groups=7, batch_size=12, micro_batch_size=12, rank=0, processes=1, seed=3)
    ranks = [Plan(7, 12, micro, rank, processes, 3) for rank in range(processes)]
    for step in range(6):
        split = [plan.micro_batches(step) for plan in ranks]
        assert all(len(parts) == ranks[0].accumulation == 12 // (micro * processes) for parts in split)
        assert all(len(part.indices) == len(part.visits) == micro for parts in split for part in parts)
        order = [pair for parts in zip(*split, strict=True) for part in parts
                 for pair in zip(part.indices, part.visits, strict=True)]  # fmt: skip
        assert order == seen(whole, step)


@pytest.mark.parametrize(("groups", "batch"), [(10, 4), (7, 12), (5, 5), (1, 3), (64, 8)])
def test_every_epoch_visits_each_group_once(groups: int, batch: int) -> None:
    """And a group's visit number is the epoch, so that each pass has new draws."""
    plan = Plan(groups, batch, 1, 0, 1, seed=0)
    order = [pair for step in range(groups * 3) for pair in seen(plan, step)]
    for epoch in range(len(order) // groups):
        part = order[epoch * groups : (epoch + 1) * groups]
        assert sorted(index for index, _ in part) == list(range(groups))
        assert {visit for _, visit in part} == {epoch}
        assert plan.epoch(epoch * groups) == pytest.approx(epoch * batch)


def test_order_is_shuffled_by_seed_and_epoch_alone() -> None:
    """Epochs and seeds differ; a step asked for alone, as after a resume, is what it was in sequence."""
    plan, other = (Plan(64, 64, 64, 0, 1, seed=seed) for seed in (0, 1))
    epochs = [[index for index, _ in seen(plan, step)] for step in range(6)]
    assert len({tuple(order) for order in epochs}) == 6
    assert list(range(64)) not in epochs
    assert [index for index, _ in seen(other, 0)] != epochs[0]
    fresh = Plan(64, 64, 64, 0, 1, seed=0)
    assert [index for index, _ in seen(fresh, 5)] == epochs[5]
    assert [index for index, _ in seen(fresh, 0)] == epochs[0]


def test_every_position_of_an_epoch_is_open_to_every_group() -> None:
    """Over 400 epochs of 5 groups each comes first about 80 times (deviation 8)."""
    plan = Plan(5, 5, 5, 0, 1, seed=0)
    first = Counter(seen(plan, step)[0][0] for step in range(400))
    assert all(80 - 32 < first[group] < 80 + 32 for group in range(5)), first


def test_impossible_plans_are_refused() -> None:
    """No data, or a batch that does not divide."""
    with pytest.raises(ValueError, match="no training pairs are left"):
        Plan(0, 4, 1, 0, 1, seed=0)
    for batch, micro, processes in ((8, 3, 1), (8, 4, 3), (2, 4, 1), (8, 8, 2)):
        with pytest.raises(ValueError, match=rf"train\.batch_size: {batch} is not a multiple .* {micro} x {processes}"):
            Plan(10, batch, micro, 0, processes, seed=0)
