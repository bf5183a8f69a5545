"""What a reward's training minimises and how often it is right, against worked values and plain second paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from rewards.objectives import OBJECTIVES, hps, image_reward, pick_score, total
from rewards.pair_metrics import THRESHOLDS, best_threshold, pair_accuracy, tie_aware_accuracy

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4


def call(function, difference: float, label: float) -> float:
    """The loss of one pair whose scores differ by this much."""
    return float(function(torch.tensor([1 + difference]), torch.tensor([1.0]), torch.tensor([label])))


@pytest.mark.parametrize(
    ("difference", "label", "pick", "cross"),
    [
        (LN3, 1.0, math.log(4 / 3), math.log(4 / 3)),
        (LN3, 0.0, math.log(4), math.log(4)),
        (LN3, 0.75, 0.0, 0.75 * math.log(4 / 3) + 0.25 * math.log(4)),
        (LN3, 0.5, 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), 0.5 * math.log(4 / 3) + 0.5 * math.log(4)),
        (0.0, 0.5, 0.0, math.log(2)),
        (0.0, 1.0, math.log(2), math.log(2)),
    ],
)
def test_worked_values(difference: float, label: float, pick: float, cross: float) -> None:
    """With sigmoid(difference) = 3/4 the divergence from a label is a line of arithmetic."""
    assert call(pick_score, difference, label) == pytest.approx(pick, abs=2e-7)
    assert call(hps, difference, label) == pytest.approx(cross, abs=2e-7)


def test_image_reward_knows_winners_only() -> None:
    assert call(image_reward, LN3, 1.0) == pytest.approx(math.log(4 / 3), abs=2e-7)
    assert call(image_reward, LN3, 0.0) == pytest.approx(math.log(4), abs=2e-7)
    assert call(image_reward, LN3, 0.7) == call(image_reward, LN3, 1.0), "a majority of votes is a winner"


@pytest.mark.parametrize("function", [pick_score, hps])
@pytest.mark.parametrize("label", [0.5, 0.2, 1.0])
def test_gradient_is_probability_minus_label(function, label: float) -> None:
    """d/ds₀ = σ(s₀ − s₁) − y: none for a tie at equal scores."""
    for scores in ((2.0, 2.0), (3.0, 1.0)):
        first, second = (torch.tensor([x], requires_grad=True) for x in scores)
        function(first, second, torch.tensor([label])).sum().backward()
        expected = 1 / (1 + math.exp(scores[1] - scores[0])) - label
        assert float(first.grad) == pytest.approx(expected, abs=1e-6)
        assert float(second.grad) == pytest.approx(-expected, abs=1e-6)


def test_weights_are_normalised_over_the_global_batch() -> None:
    """PickScore's published form: two labelled cross-entropies, ties less ln 2, a weighted mean over all processes."""
    generator = torch.Generator().manual_seed(0)
    scores = 5 * torch.randn(12, 2, generator=generator, dtype=torch.float64)
    label = torch.tensor([1, 0, 0.5, 1, 1, 0.5, 0, 0, 1, 0.5, 1, 0], dtype=torch.float64)
    counts = torch.tensor([1, 1, 3, 3, 3, 2, 2, 7, 1, 1, 4, 4], dtype=torch.float64)
    target = torch.zeros(12, dtype=torch.long)
    naive = label * cross_entropy(scores, target, reduction="none")
    naive += (1 - label) * cross_entropy(scores, target + 1, reduction="none")
    naive = naive - math.log(2) * (label == 0.5).double()
    expected = float((naive / counts).sum() / (1 / counts).sum())
    objective, weights = OBJECTIVES["pickscore"], 1 / counts
    losses = objective.loss(scores[:, 0], scores[:, 1], label)
    whole = float(weights.sum())
    assert float(total(objective, losses, weights, whole, 1)) == pytest.approx(expected, abs=1e-12)
    halves = [total(objective, losses[part], weights[part], whole, 2) for part in (slice(0, 6), slice(6, 12))]
    assert float(sum(halves)) / 2 == pytest.approx(expected, abs=1e-12), "gradients are averaged over processes"
    ones = torch.ones(12, dtype=torch.float64)
    summed = total(OBJECTIVES["hps"], losses, ones, 12.0, 1)
    assert float(summed) == pytest.approx(float(losses.sum()), abs=1e-12)


def test_half_precision_scores_lose_nothing_more() -> None:
    first, second, label = torch.tensor([21.5]), torch.tensor([20.25]), torch.tensor([1.0])
    low = pick_score(first.bfloat16(), second.bfloat16(), label)
    assert low.dtype == torch.float32
    assert low == pick_score(first.bfloat16().float(), second.bfloat16().float(), label)


def test_pair_accuracy_leaves_ties_out_and_calls_equal_scores_wrong() -> None:
    first, second = np.array([2.0, 1, 1, 5, 1]), np.array([1.0, 2, 1, 0, 2])
    found = pair_accuracy(first, second, np.array([1.0, 1, 1, 0.5, 0.2]))
    np.testing.assert_array_equal(found, [1, 0, 0, np.nan, 1])


def test_tie_aware_accuracy_is_pickscores() -> None:
    """Against a loop over probabilities; labels as it has them, 1, 0 and ½."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60))
    label = rng.choice([0.0, 0.5, 1.0], 60)
    for threshold in (0.0, 0.3, 1.0):
        naive = []
        for a, b, meant in zip(first, second, label, strict=True):
            p = math.exp(a) / (math.exp(a) + math.exp(b))
            said = 0.5 if abs(p - (1 - p)) <= threshold else float(p > 1 - p)
            naive.append(1.0 if said == meant else 0.5 if 0.5 in (said, meant) else 0.0)
        np.testing.assert_array_equal(tie_aware_accuracy(first, second, label, threshold), naive)


def test_the_threshold_of_ties_is_the_best_one() -> None:
    first, second = np.array([1.0, 0.1, -1.2]), np.zeros(3)
    label = np.array([1.0, 0.5, 0.0])
    chosen = best_threshold(first, second, label)
    assert chosen == 0.1, "|2 sigmoid(0.1) - 1| = 0.04998, and 0 would call it a win"
    assert tie_aware_accuracy(first, second, label, chosen).mean() == 1
    assert THRESHOLDS == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
