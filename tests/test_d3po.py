"""D3PO on groups: pairs are `clipped_dpo`'s, wins replace the order of the scores, and ties ask for nothing."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from mmpo.losses import LOSSES, PairLogps
from mmpo.losses.listwise import d3po

OPTIONS = {"beta": 0.7, "clip": 0.1}


def logps(count: int, size: int, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Log-densities of policy and reference [B, K], about a third of their ratios beyond the clip."""
    random = torch.Generator().manual_seed(2)
    policy, reference = (
        spread * torch.randn(count, size, generator=random, dtype=torch.float64) - 1.5 for _ in range(2)
    )
    return policy.requires_grad_(), reference


def clipped(policy: Tensor, reference: Tensor, winner: int, loser: int) -> Tensor:
    """[B] of the pair loss."""
    sides = [PairLogps(x[:, winner], x[:, loser]) for x in (policy, reference)]
    return LOSSES["clipped_dpo"](*sides, **OPTIONS)


@pytest.mark.parametrize("with_wins", [False, True])
def test_two_candidates_are_clipped_dpo(with_wins: bool) -> None:
    """Value and gradient, inside the clip and beyond it."""
    policy, reference = logps(64, 2)
    wins = torch.tensor([[False, True], [False, False]]).expand(64, 2, 2) if with_wins else None
    ours = d3po(policy, reference, scores=torch.tensor([[1.0, 0.0]]).expand(64, 2), wins=wins, **OPTIONS)
    theirs = clipped(policy, reference, 0, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(x.sum(), policy)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    dead = (gradients[0] == 0).double().mean()
    assert 0.1 < dead < 0.9  # both kinds are among them


def test_a_group_is_the_sum_of_its_pairs() -> None:
    """By Pareto dominance, which is no order: 0 beats 1 and 3, 2 beats 3, the rest tie."""
    policy, reference = logps(16, 4)
    wins = torch.zeros(16, 4, 4, dtype=torch.bool)
    pairs = [(0, 1), (0, 3), (2, 3)]
    for winner, loser in pairs:
        wins[:, winner, loser] = True
    ours = d3po(policy, reference, scores=torch.zeros(16, 4), wins=wins, **OPTIONS)
    expected = torch.stack([clipped(policy, reference, *pair) for pair in pairs]).sum(0)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)


def test_scores_without_wins_are_all_pairs() -> None:
    """Distinct scores: K(K − 1)/2 pairs by their order; ln 2 each where nothing was learnt."""
    policy, reference = logps(4, 5)
    order = [3, 0, 4, 2, 1]
    scores = torch.zeros(4, 5)
    scores[:, order] = torch.arange(5.0, 0.0, -1.0)
    expected = torch.stack([clipped(policy, reference, *pair) for pair in combinations(order, 2)]).sum(0)
    torch.testing.assert_close(d3po(policy, reference, scores=scores, **OPTIONS), expected, rtol=1e-12, atol=0)
    start = d3po(reference, reference, scores=scores, **OPTIONS)
    torch.testing.assert_close(start, torch.full_like(start, 10 * math.log(2)), rtol=1e-12, atol=0)


def test_ties_give_no_gradient() -> None:
    """A group without a preference is 0, with scores or with wins."""
    policy, reference = logps(3, 4, 0.01)
    for given in ({}, {"wins": torch.zeros(3, 4, 4, dtype=torch.bool)}):
        value = d3po(policy, reference, scores=torch.zeros(3, 4), **given, **OPTIONS)
        assert not value.any()
        assert not torch.autograd.grad(value.sum(), policy)[0].any()


def test_an_absent_candidate_wins_and_loses_nothing() -> None:
    """Whatever `wins` says of it, and whatever its log-densities are."""
    policy, reference = logps(3, 3, 0.01)
    wins = torch.tensor([[False, True, True], [False, False, True], [False, False, False]]).expand(3, 3, 3)
    mask = torch.tensor([True, False, True]).expand(3, 3)
    spoiled = policy.detach().clone()
    spoiled[:, 1] = math.nan
    value = d3po(spoiled, reference, scores=torch.zeros(3, 3), mask=mask, wins=wins, **OPTIONS)
    torch.testing.assert_close(value, clipped(policy, reference, 0, 2).detach(), rtol=1e-12, atol=0)


def test_wins_of_another_shape_or_kind_are_refused() -> None:
    policy, reference = logps(2, 3)
    for wins, message in (
        (torch.zeros(2, 3, dtype=torch.bool), r"wins: expected.*\[2, 3, 3\]"),
        (torch.zeros(2, 3, 3), "wins: expected .*bool"),
    ):
        with pytest.raises(ValueError, match=message):
            d3po(policy, reference, scores=torch.zeros(2, 3), wins=wins, **OPTIONS)


def test_the_published_loss_range() -> None:
    """β = 0.1 and clip 0.1 leave a pair between 0.6832 and 0.7032: −log σ(±0.1·ln(1.1/0.9)). diffusion.md section 3."""
    far = torch.tensor([[5.0, -5.0]], dtype=torch.float64)
    scores, options = torch.tensor([[1.0, 0.0]]), {"beta": 0.1, "clip": 0.1}
    low, high = (float(d3po(sign * far, torch.zeros_like(far), scores=scores, **options)) for sign in (1, -1))
    assert low == pytest.approx(0.6832, abs=1e-4)
    assert high == pytest.approx(0.7032, abs=1e-4)
