"""Which two candidates are shown when, and on which side: pure functions of a seed. No torch."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

from mmpo.records import content_id

Couple = tuple[int, int]


class Question(NamedTuple):
    """Two candidates of a group.

    Args:
        group: its place among the groups.
        first, second: places in it, the lower one first.
        swapped: whether the second is shown on the left.
    """

    group: int
    first: int
    second: int
    swapped: bool


def schedule(
    groups: Sequence[tuple[str, Sequence[str]]], *, seed: int, voter: str = "", per_prompt: int | None = None
) -> list[Question]:
    """All questions in the order they are asked: group after group, in an order and on sides that the seed decides.

    Where a group stands in the data decides nothing, so more data later change no question that was asked.

    Args:
        groups: of each group its name and its candidates' ids.
        voter: has sides of their own; the order is everybody's.
        per_prompt: so many questions of a group at most; None asks every pair.
    """

    def questions(place: int) -> list[Question]:
        name, ids = groups[place]
        order = spread_couples(len(ids), content_id("couples", seed, name))
        return [Question(place, a, b, _coin(seed, voter, ids[a], ids[b])) for a, b in order[:per_prompt]]

    places = sorted(range(len(groups)), key=lambda place: content_id("group", seed, groups[place][0]))
    return [question for place in places for question in questions(place)]


def spread_couples(count: int, seed: str) -> list[Couple]:
    """Every two of `count` in a random order in which those shown least come next.

    Hence the first ceil(count / 2) couples show everyone, and the first n show any two equally often or nearly so.
    """
    couples = list(itertools.combinations(range(count), 2))
    random.Random(seed).shuffle(couples)
    uses = [0] * count
    waiting = [(0, place) for place in range(len(couples))]  # a heap; uses only grow, so old entries come too early
    order: list[Couple] = []
    while waiting:
        before, place = heapq.heappop(waiting)
        used = sum(uses[index] for index in couples[place])
        if used > before:
            heapq.heappush(waiting, (used, place))
            continue
        order.append(couples[place])
        for index in couples[place]:
            uses[index] += 1
    return order


def unseen(groups: Sequence[tuple[str, Sequence[str]]], per_prompt: int | None) -> int:
    """How many groups are so large that `per_prompt` questions do not show all of their candidates."""
    return 0 if per_prompt is None else sum(len(ids) > 2 * per_prompt for _, ids in groups)


def _coin(seed: int, *parts: str) -> bool:
    return int(content_id("side", seed, *parts), 16) % 2 == 1
