"""Learning rates, the optimiser, and the moving average of the weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from mmpo.recipe import Optim
from mmpo.training.ema import MovingAverage
from mmpo.training.optim import build_optimizer, learning_rate, set_learning_rate


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, {0: 1.0, 50: 1.0, 99: 1.0, 100: 1.0}),
        ("constant_with_warmup", 0, {0: 1.0, 99: 1.0}),
        ("constant_with_warmup", 10, {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 99: 1.0}),
        ("linear", 0, {0: 1.0, 25: 0.75, 50: 0.5, 99: 0.01, 100: 0.0, 120: 0.0}),
        ("linear", 20, {0: 0.05, 19: 1.0, 20: 1.0, 60: 0.5, 100: 0.0, 120: 0.0}),
        ("cosine", 0, {0: 1.0, 50: 0.5, 100: 0.0, 120: 0.0}),
        ("cosine", 20, {0: 0.05, 19: 1.0, 20: 1.0, 40: 0.5 + 0.125**0.5, 60: 0.5, 80: 0.5 - 0.125**0.5, 100: 0.0}),
        ("linear", 100, {0: 0.01, 99: 1.0, 100: 1.0}),
        ("cosine", 200, {0: 0.005, 99: 0.5}),
    ],
)
def test_learning_rate_at_its_ends(schedule: str, warmup: int, expected: dict[int, float]) -> None:
    """Shares of the peak by step, of 100 steps: linear warm-up, then constant, a line or half a cosine to 0.

    A quarter down the cosine is (1 + cos(π/4))/2 = ½ + √⅛.
    """
    optim = Optim(lr=2e-5, schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
    got = {step: learning_rate(step, 100, optim) for step in expected}
    assert got == pytest.approx({step: 2e-5 * share for step, share in expected.items()}, rel=1e-12, abs=1e-20)


@pytest.mark.parametrize("schedule", ["constant_with_warmup", "linear", "cosine"])
def test_learning_rate_is_one_smooth_hump(schedule: str) -> None:
    """Never 0 while training, up during the warm-up, not up after it, without jumps."""
    optim = Optim(lr=1.0, schedule=schedule, warmup_steps=30)  # type: ignore[arg-type]
    rates = [learning_rate(step, 200, optim) for step in range(200)]
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert min(rates) > 0
    assert all(step > 0 for step in steps[:29])
    assert all(step <= 0 for step in steps[29:])
    assert max(map(abs, steps)) < 0.04


def test_the_optimiser_takes_the_recipes_settings() -> None:
    """One AdamW step with g = 1: decay lr·wd·w, then lr·m̂/(√v̂ + ε) = lr, as both moments are corrected to 1."""
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optim = Optim(lr=0.5, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6)
    optimizer = build_optimizer([weight], optim, fused=False)
    assert {key: optimizer.param_groups[0][key] for key in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 0.5,
        "betas": (0.8, 0.95),
        "eps": 1e-6,
        "weight_decay": 0.1,
    }
    set_learning_rate(optimizer, 0.25)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.25 * 0.1) - 0.25 / (1 + 1e-6), rel=1e-12)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_moving_average(decay: float) -> None:
    """shadow ← d·shadow + (1 − d)·w with d = min(decay, (1 + n)/(10 + n)) after step n, from the first weights."""
    parameters = {"w": nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))}
    average = MovingAverage(parameters, decay)
    expected = [1.0, -2.0]
    for step in range(40):
        with torch.no_grad():
            parameters["w"].copy_(torch.tensor([math.sin(step), step**0.5]))
        average.update(parameters, step)
        d = min(decay, (1 + step) / (10 + step))
        expected = [d * old + (1 - d) * new for old, new in zip(expected, parameters["w"].tolist(), strict=True)]
    assert average.shadow["w"].tolist() == pytest.approx(expected, rel=1e-12)
    assert not average.shadow["w"].requires_grad
    average.copy_to(parameters)
    assert parameters["w"].tolist() == average.shadow["w"].tolist()
    assert parameters["w"].requires_grad


def test_the_moving_average_is_apart_from_the_weights() -> None:
    """No shared storage in either direction, and an average of a constant is that constant exactly."""
    parameters = {"w": nn.Parameter(torch.full((3,), 0.3))}
    average = MovingAverage(parameters, 0.99)
    for step in range(20):
        average.update(parameters, step)
    assert torch.equal(average.shadow["w"], parameters["w"])
    with torch.no_grad():
        parameters["w"].zero_()
    assert average.shadow["w"].eq(0.3).all()
    average.copy_to(parameters)
    average.shadow["w"].zero_()
    assert parameters["w"].eq(0.3).all()
