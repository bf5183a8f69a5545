"""The collapse guard: when it speaks, when it is silent, and what it keeps over a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from log_ratios import logps

from mmpo.recipe import Guard
from mmpo.training.guard import CollapseGuard
from mmpo.training.heldout import BANDS, HeldOut, summarise
from mmpo.training.statistics import Interval

REFERENCE = 0.4
"""The reference's own error in these evaluations."""


def evaluation(*, chosen: float = 0.0, error: float = 0.1, saturated: float = 0.0) -> HeldOut:
    """A held-out evaluation with this chosen error, its standard error, and share of saturated pairs."""
    flat = Interval(0.6, 0.5, 0.7, 0.05)
    interval = Interval(chosen, chosen - 2 * error, chosen + 2 * error, error)
    return HeldOut(flat, [flat] * BANDS, interval, flat, saturated, 32, reference_error=REFERENCE)


def verdicts(guard: CollapseGuard, errors: Iterable[float]) -> list[tuple[bool, bool]]:
    """(healthy, spoke) after each evaluation with these chosen errors and standard error 0.1."""
    return [(healthy, sentence is not None) for healthy, sentence in
            (guard.see_evaluation(evaluation(chosen=error)) for error in errors)]  # fmt: skip


def test_guard_speaks_when_the_chosen_error_stays_above() -> None:
    """Above half the reference's error and 3 standard errors.

    Not worth going back to at once, a sentence from the second evaluation running on.
    """
    guard = CollapseGuard(Guard(standard_errors=3.0, evaluations=2))
    assert verdicts(guard, [0.0, 0.29, 0.31, 0.5, 0.4]) == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
        (False, True),
    ]
    _, sentence = guard.see_evaluation(evaluation(chosen=0.5))
    assert sentence is not None
    assert "4 evaluations running" in sentence
    assert "5.0 standard errors" in sentence


def test_guard_counts_again_after_a_recovery() -> None:
    """`evaluations` running means without one in between that is fine."""
    guard = CollapseGuard(Guard(standard_errors=3.0, evaluations=3))
    bad, good = (False, False), (True, False)
    assert verdicts(guard, [1, 1, 0.1, 1, 1, -1, 1, 1, 1]) == [bad, bad, good, bad, bad, good, bad, bad, (False, True)]


def test_guard_is_silent_on_an_untrained_policy() -> None:
    """At step 0 the error and its standard error are exactly 0; a negative error is an improvement however sure."""
    guard = CollapseGuard(Guard(evaluations=1, error_rise=0))
    assert guard.see_evaluation(evaluation(chosen=0.0, error=0.0)) == (True, None)
    assert guard.see_evaluation(evaluation(chosen=-5.0, error=0.01)) == (True, None)
    assert guard.see_evaluation(evaluation(chosen=1e-9, error=0.0))[0] is False


def test_guard_is_silent_on_a_small_rise_however_sure() -> None:
    """Preference training that works often raises the chosen error a little; that is not a collapse."""
    guard = CollapseGuard(Guard(evaluations=1, error_rise=0.5))
    assert guard.see_evaluation(evaluation(chosen=0.49 * REFERENCE, error=1e-6)) == (True, None)
    healthy, sentence = guard.see_evaluation(evaluation(chosen=0.51 * REFERENCE, error=1e-6))
    assert not healthy
    assert sentence is not None
    assert "51% worse than by the reference" in sentence


def test_guard_is_silent_on_a_large_rise_that_may_be_chance() -> None:
    guard = CollapseGuard(Guard(evaluations=1))
    assert guard.see_evaluation(evaluation(chosen=2 * REFERENCE, error=REFERENCE)) == (True, None)


def test_guard_speaks_when_logits_saturate() -> None:
    """At the share and above, at once; a share of 0 switches it off."""
    guard = CollapseGuard(Guard(saturated_share=0.9))
    assert guard.see_evaluation(evaluation(saturated=0.89)) == (True, None)
    healthy, sentence = guard.see_evaluation(evaluation(saturated=0.9))
    assert not healthy
    assert sentence is not None
    assert "90% of held-out pairs" in sentence
    assert CollapseGuard(Guard(saturated_share=0.0)).see_evaluation(evaluation(saturated=1.0)) == (True, None)


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
@pytest.mark.parametrize("share", ["one", "all"])
def test_guard_never_calls_broken_weights_healthy(broken: float, share: str) -> None:
    """A policy whose log-likelihood is NaN or −∞ on held-out pairs has collapsed.

    NaN is left out of means as a missing row and is neither above nor below, so that it could pass as no change; the
    weights would then be kept as the last good ones.
    """
    policy, reference = logps([[(0.1, 0.0)] * 4] * 8)
    policy[: 1 if share == "one" else 8] = broken
    with np.errstate(invalid="ignore"):
        healthy, _ = CollapseGuard(Guard()).see_evaluation(summarise(policy, reference, list("abcdefgh"), beta=1.0))
    assert not healthy


def test_guard_speaks_when_a_gradient_explodes() -> None:
    """Above 100 times the running median, once twenty norms are known; single spikes do not move the median."""
    guard = CollapseGuard(Guard(grad_norm_factor=100.0))
    for norm in [*[2.0] * 19, 1e9]:
        assert guard.see_gradient(norm) is None
    assert guard.see_gradient(200.0) is None
    sentence = guard.see_gradient(202.0)
    assert sentence is not None
    assert "101 times its running median" in sentence
    assert guard.see_gradient(200.0) is None


def test_guard_follows_the_recent_gradients() -> None:
    """The median is of the last hundred norms (1.02^50 = 2.7 behind): a slow growth is not an explosion."""
    guard = CollapseGuard(Guard(grad_norm_factor=10.0))
    assert all(guard.see_gradient(1.02**step) is None for step in range(400))
    assert guard.see_gradient(1.02**400 * 11) is not None


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_guard_speaks_at_once_when_a_gradient_is_not_finite(norm: float) -> None:
    """From the first step on, and such norms do not enter the median."""
    guard = CollapseGuard(Guard(grad_norm_factor=100.0))
    for _ in range(30):
        sentence = guard.see_gradient(norm)
        assert sentence is not None
        assert f"the gradient norm is {norm}" in sentence
    assert all(guard.see_gradient(1.0) is None for _ in range(20))
    assert guard.see_gradient(101.0) is not None


@pytest.mark.parametrize("cut", [2, 23, 58, 135])  # within a row of bad evaluations, one before it is complete
def test_guard_state_survives_a_checkpoint(cut: int) -> None:
    """Through JSON, as checkpoints store it: the restored guard says what the uninterrupted one says."""
    generator = torch.Generator().manual_seed(0)
    norms = [*torch.rand(140, generator=generator).add(0.5).tolist(), 60.0, 300.0, 1.0]
    errors = [1.0 if i % 7 < 4 else 0.0 for i in range(len(norms))]

    def heard(guard: CollapseGuard, start: int, end: int) -> list[object]:
        return [(guard.see_gradient(norms[i]), guard.see_evaluation(evaluation(chosen=errors[i])))
                for i in range(start, end)]  # fmt: skip

    rules = Guard(evaluations=3)
    whole, first, second = (CollapseGuard(rules) for _ in range(3))
    heard(first, 0, cut)
    second.restore(json.loads(json.dumps(first.state())))
    expected = heard(whole, 0, len(norms))[cut:]
    assert heard(second, cut, len(norms)) == expected
    assert any(gradient for gradient, _ in expected)  # type: ignore[misc]
    assert second.state() == whole.state()
    assert len(second.state()["norms"]) == 100
