"""From scores to ranks and pairs, by hand and against the definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from pair_files import NAN

from mmpo.data import pairing

SCORES = st.lists(st.one_of(st.none(), st.just(NAN), st.integers(-3, 3).map(float)), min_size=0, max_size=6)
MARGINS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def usable(scores: Sequence[float | None]) -> dict[int, float]:
    """Index to score, of the candidates that could be scored."""
    return {i: score for i, score in enumerate(scores) if score is not None and score == score}


def test_ranks_by_hand() -> None:
    assert pairing.ranks([0.5, 0.9, 0.5, None, 0.1, NAN]) == [2, 1, 2, 5, 4, 5]
    assert pairing.ranks([]) == []


@given(SCORES)
def test_a_rank_is_one_more_than_how_many_are_better(scores: list[float | None]) -> None:
    good = usable(scores)
    expected = [1 + sum(v > good[i] for v in good.values()) if i in good else 1 + len(good) for i in range(len(scores))]
    assert pairing.ranks(scores) == expected


def test_all_pairs_by_hand() -> None:
    scores = [0.0, 3.0, 1.0, None]
    assert pairing.all_pairs(scores) == [(1, 0), (1, 2), (2, 0)]
    assert pairing.all_pairs(scores, margin=1.0) == [(1, 0), (1, 2)]
    assert pairing.all_pairs(scores, limit=1) == pairing.best_worst(scores) == [(1, 0)]
    assert pairing.best_worst(scores, margin=3.0) == []
    assert pairing.all_pairs([0.0, 1.0, 2.0, 3.0], limit=2) == [(3, 0), (2, 1)]


@given(SCORES, MARGINS)
def test_all_pairs_are_exactly_those_beyond_the_margin(scores: list[float | None], margin: float) -> None:
    good = usable(scores)
    pairs = pairing.all_pairs(scores, margin=margin)
    assert sorted(pairs) == sorted((a, b) for a in good for b in good if good[a] - good[b] > margin)


@given(SCORES, MARGINS, st.integers(1, 8))
def test_a_limit_is_a_prefix_that_reuses_a_candidate_only_when_it_must(
    scores: list[float | None], margin: float, limit: int
) -> None:
    every = pairing.all_pairs(scores, margin=margin)
    picked = pairing.all_pairs(scores, margin=margin, limit=limit)
    assert picked == every[:limit]
    uses: Counter[int] = Counter()
    for position, pair in enumerate(picked):
        if max(uses[i] for i in pair):
            assert all(uses[a] or uses[b] for a, b in every[position:])
        uses.update(pair)


@given(SCORES, MARGINS)
def test_best_worst_is_the_largest_gap_or_nothing(scores: list[float | None], margin: float) -> None:
    values = usable(scores).values()
    picked = pairing.best_worst(scores, margin=margin)
    if len(values) < 2 or max(values) - min(values) <= margin:
        assert picked == []
    else:
        ((best, worst),) = picked
        assert (scores[best], scores[worst]) == (max(values), min(values))
