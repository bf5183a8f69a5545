"""The parts of the loop that are plain functions: intervals, held-out figures, the guard, order, rates, averages, β."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmpo.adapters import Denoising
from mmpo.beta import CONVENTIONS, equivalents, to_half_mean
from mmpo.contracts import Batch
from mmpo.recipe import Guard, Optim
from mmpo.training.ema import MovingAverage
from mmpo.training.guard import CollapseGuard
from mmpo.training.heldout import BANDS, HeldOut, held_out_logps, summarise
from mmpo.training.optim import build_optimizer, learning_rate, set_learning_rate
from mmpo.training.order import Plan
from mmpo.training.statistics import Interval, clustered_mean

# ---- intervals ----


def test_the_interval_of_equal_clusters_has_a_closed_form() -> None:
    """G equal clusters with means m_g: standard error √(Σ(m_g − m)²)/G; nearly normal, so ±1.96 of it.

    2000 resamples give a standard error to about 1/√4000 = 1.6 %, an edge to about 5 % of a standard error.
    """
    rng = np.random.default_rng(0)
    means = rng.normal(3.0, 2.0, size=100)
    values = np.repeat(means, 5) + np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 100)  # the mean of each cluster stays
    got = clustered_mean(values, [str(g) for g in range(100) for _ in range(5)])
    error = math.sqrt(((means - means.mean()) ** 2).sum()) / 100
    assert got.mean == pytest.approx(means.mean(), rel=1e-12)
    assert got.standard_error == pytest.approx(error, rel=0.06)
    assert got.low == pytest.approx(got.mean - 1.96 * error, abs=0.2 * error)
    assert got.high == pytest.approx(got.mean + 1.96 * error, abs=0.2 * error)


def test_the_interval_of_unequal_clusters_against_all_resamples() -> None:
    """All 5⁵ resamples of five clusters: each resample's mean is over its images, not over its clusters."""
    clusters = {"a": [1.0, 2.0, 6.0], "b": [0.0], "c": [5.0, 5.5], "d": [-3.0, 1.0, 0.0, 2.0], "e": [8.0]}
    every = [
        np.mean([value for name in names for value in clusters[name]])
        for names in itertools.product(clusters, repeat=len(clusters))
    ]
    got = clustered_mean(
        [value for values in clusters.values() for value in values],
        [name for name, values in clusters.items() for _ in values],
    )
    assert got.mean == pytest.approx(27.5 / 11, rel=1e-12)
    assert got.standard_error == pytest.approx(np.std(every), rel=0.06)
    # 2000 draws put a 2.5 % quantile between the true 1.3 % and 3.7 % quantiles (3.5 deviations)
    low, high = np.quantile(every, [0.013, 0.037]), np.quantile(every, [0.963, 0.987])
    assert low[0] <= got.low <= low[1]
    assert high[0] <= got.high <= high[1]


def test_images_of_one_prompt_count_once() -> None:
    """Ten equal copies carry no information: clustered, as wide as without them; taken as independent, √10 less."""
    values = np.random.default_rng(1).normal(size=60)
    alone = clustered_mean(values, [str(i) for i in range(60)])
    copies = np.repeat(values, 10)
    clustered = clustered_mean(copies, [str(i) for i in range(60) for _ in range(10)])
    naive = clustered_mean(copies, [str(i) for i in range(600)])
    assert clustered.standard_error == pytest.approx(alone.standard_error, rel=1e-9)
    assert clustered.standard_error / naive.standard_error == pytest.approx(math.sqrt(10), rel=0.1)
    assert clustered.high - clustered.low > 2.5 * (naive.high - naive.low)


def test_missing_values_are_left_out() -> None:
    """As if they had not been given: also where a whole cluster is missing. The order of rows changes nothing."""
    values, names = [1.0, math.nan, 3.0, math.nan, 5.0, 2.0], ["a", "a", "b", "c", "d", "b"]
    kept = [i for i, value in enumerate(values) if not math.isnan(value)]
    expected = clustered_mean([values[i] for i in kept], [names[i] for i in kept])
    assert clustered_mean(values, names) == expected
    assert clustered_mean(values[::-1], names[::-1]) == expected
    assert expected.mean == 11 / 4


def test_an_interval_is_reproducible_and_holds_its_mean() -> None:
    """Seeded; one cluster has no spread to estimate, so its interval is a point."""
    values, names = [1.0, 2.0, 4.0, 9.0], ["a", "b", "c", "d"]
    assert clustered_mean(values, names) == clustered_mean(values, names) != clustered_mean(values, names, seed=1)
    got = clustered_mean(values, names)
    assert 1 <= got.low < got.mean < got.high <= 9
    assert clustered_mean([1.0, 2.0], ["a", "a"]) == Interval(1.5, 1.5, 1.5, 0.0)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "values: nothing to average"),
        ([math.nan, math.nan], ["a", "b"], "values: nothing to average"),
        ([1.0, 2.0], ["a"], "clusters: expected 2 names, one per value, got 1"),
    ],
)
def test_intervals_of_nothing_are_refused(values: list[float], clusters: list[str], message: str) -> None:
    """A mean of no values must not become NaN in a report."""
    with pytest.raises(ValueError, match=message):
        clustered_mean(values, clusters)


# ---- held-out figures ----


def logps(ratios: Sequence[Sequence[tuple[float, float]]], draws: int = 2) -> tuple[Tensor, Tensor]:
    """Policy and reference [N, BANDS · draws, 2] with these log-ratios (chosen, rejected) per pair and band.

    The draws of a band spread around the band's ratio and cancel in its mean.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64)
    assert ratio.shape[1] == BANDS
    spread = torch.linspace(-1, 1, draws, dtype=torch.float64).view(1, 1, draws, 1)
    reference = -torch.rand(len(ratio), BANDS * draws, 2, generator=torch.Generator().manual_seed(0)).double()
    return reference + (ratio[:, :, None] + 1e-3 * spread).flatten(1, 2), reference


def test_held_out_figures() -> None:
    """Four pairs by hand.

    Δ per band and over all: pair 0 (4, −1, −1, −1) → +0.25, a win although three bands of four are lost; pair 1
    −1 throughout, lost; pair 2 exactly equal, a half; pair 3 +2 throughout, won. The errors are −2 · the ratio.
    """
    policy, reference = logps(
        [
            [(4.0, 0.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)],
            [(-2.0, -1.0)] * 4,
            [(0.5, 0.5)] * 4,
            [(1.0, -1.0)] * 4,
        ]
    )
    policy[2] = reference[2]  # exactly
    got = summarise(policy, reference, ["a", "b", "c", "d"], beta=6.0)
    assert got.pairs == 4
    assert got.accuracy.mean == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert [band.mean for band in got.by_band] == pytest.approx([2.5 / 4, 1.5 / 4, 1.5 / 4, 1.5 / 4])
    assert got.chosen_error.mean == pytest.approx(-2 * (1.0 - 2.0 + 0.0 + 1.0) / 4, abs=1e-12)
    assert got.rejected_error.mean == pytest.approx(-2 * (0.75 - 1.0 + 0.0 - 1.0) / 4)
    assert got.saturated == 0.25  # β·Δ = 1.5, −6, 0 and 12
    assert summarise(policy, reference, ["a", "b", "c", "d"], beta=10.1).saturated == 0.5  # −10.1 counts too
    assert json.loads(json.dumps(got.as_dict()))["by_band"][0]["mean"] == 0.625
    assert got.metrics()["eval/accuracy@t[0-0.25]"] == 0.625
    assert got.metrics()["eval/chosen_error_vs_reference"] == got.chosen_error.mean


def test_held_out_errors_have_the_sign_of_harm() -> None:
    """A policy that denoises the chosen images worse than the reference has a chosen error above 0."""
    error = torch.full((6, BANDS, 2), 0.1, dtype=torch.float64)
    worse = error + torch.tensor([0.02, 0.05], dtype=torch.float64)
    got = summarise(-0.5 * worse, -0.5 * error, list("abcdef"), beta=5000.0)
    assert (got.chosen_error.mean, got.rejected_error.mean) == pytest.approx((0.02, 0.05))
    assert got.accuracy.mean == 1.0  # both sides got worse, and the accuracy does not show it
    assert got.saturated == 1.0


def test_held_out_intervals_are_clustered_by_prompt() -> None:
    """Eight pairs of one prompt are one observation."""
    policy, reference = logps([[(float(i % 2), 0.5)] * 4 for i in range(16)])
    apart = summarise(policy, reference, [str(i) for i in range(16)], beta=1.0)
    together = summarise(policy, reference, [str(i % 2) for i in range(16)], beta=1.0)
    assert together.chosen_error.mean == apart.chosen_error.mean
    assert together.chosen_error.standard_error > 2 * apart.chosen_error.standard_error
    assert together.accuracy.high - together.accuracy.low == 1.0 > apart.accuracy.high - apart.accuracy.low


class Rows:
    """Ten encoded groups of random latents."""

    def __init__(self) -> None:
        self._latents = torch.randn(10, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: Sequence[int], visits: Sequence[int] | int = 0) -> Batch:
        """The groups at these positions; visits are the evaluation's own, so those of the batch are far off."""
        latents = self._latents[list(indices)]
        text = torch.zeros(len(indices), 1, 1)
        names = [f"group {i}" for i in indices]
        return Batch(names, [99] * len(names), latents, torch.zeros_like(latents), {"text": text}, {"text": text[0, 0]})


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_held_out_draws_are_fixed_and_stratified(batch_size: int) -> None:
    """[N, BANDS · draws, K], column (band, draw): draws do not depend on the batching or on how often it ran."""
    adapter = Denoising(torch.linspace(0.99, 0.01, 1000, dtype=torch.float64))
    times: list[Tensor] = []

    def logp(batch: Batch, draw: object) -> Tensor:
        times.append(draw.time)  # type: ignore[attr-defined]
        return adapter.logp(lambda noisy, t, _: 0.5 * noisy * (t.view(-1, 1, 1, 1) / 1000), batch, draw)  # type: ignore[arg-type]

    at = [7, 1, 3, 9, 0]
    options = {"seed": 3, "draws": 2, "prepare": lambda batch: batch}
    got = held_out_logps(logp, adapter, Rows(), at, batch_size=batch_size, **options)  # type: ignore[arg-type]
    assert got.shape == (5, BANDS * 2, 2)
    assert got.dtype == torch.float64
    for column, time in enumerate(times[: BANDS * 2]):
        assert (time * BANDS).floor().eq(column // 2).all()
    alone = held_out_logps(logp, adapter, Rows(), [9], batch_size=1, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(got[3:4], alone, rtol=1e-6, atol=0)
    assert len(got[0, :, 0].unique()) == BANDS * 2
    assert held_out_logps(logp, adapter, Rows(), [], batch_size=4, **options).shape == (0, BANDS * 2, 2)  # type: ignore[arg-type]


# ---- the collapse guard ----


def evaluation(*, chosen: float = 0.0, error: float = 0.1, saturated: float = 0.0) -> HeldOut:
    """A held-out evaluation with this chosen error, its standard error, and share of saturated pairs."""
    flat = Interval(0.6, 0.5, 0.7, 0.05)
    interval = Interval(chosen, chosen - 2 * error, chosen + 2 * error, error)
    return HeldOut(flat, [flat] * BANDS, interval, flat, saturated, 32)


def verdicts(guard: CollapseGuard, errors: Iterable[float]) -> list[tuple[bool, bool]]:
    """(healthy, spoke) after each evaluation with these chosen errors and standard error 0.1."""
    return [(healthy, sentence is not None) for healthy, sentence in
            (guard.see_evaluation(evaluation(chosen=error)) for error in errors)]  # fmt: skip


def test_guard_speaks_when_the_chosen_error_stays_above() -> None:
    """Above 3 standard errors: not worth going back to at once, a sentence from the second evaluation running on."""
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
    guard = CollapseGuard(Guard(evaluations=1))
    assert guard.see_evaluation(evaluation(chosen=0.0, error=0.0)) == (True, None)
    assert guard.see_evaluation(evaluation(chosen=-5.0, error=0.01)) == (True, None)
    assert guard.see_evaluation(evaluation(chosen=1e-9, error=0.0))[0] is False


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


# ---- order ----


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


# ---- optimiser, rate, average ----


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


# ---- β ----

SD15, SDXL = 4 * 64 * 64, 4 * 128 * 128


@pytest.mark.parametrize(
    ("beta", "convention", "elements", "expected"),
    [
        (5000.0, "half_mean", SD15, 5000.0),  # the official Diffusion-DPO code
        (2500.0, "mean", SD15, 5000.0),  # diffusers' scripts, without the ½
        (1.0, "half_sum", SD15, 16384.0),  # tools that sum over the latent: Stable Diffusion 1.5 at 512 pixels
        (1.0, "half_sum", SDXL, 65536.0),  # SDXL at 1024 pixels
    ],
)
def test_beta_of_other_tools(beta: float, convention: str, elements: int, expected: float) -> None:
    """Published defaults and latent sizes."""
    assert to_half_mean(beta, convention, elements) == expected


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_strength_in_every_convention_is_one_logit(convention: str) -> None:
    """Each convention's own formula on the same squared errors gives the same logit."""
    errors = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    formulas = {
        "half_mean": lambda beta: -beta / 2 * errors.mean(),
        "mean": lambda beta: -beta * errors.mean(),
        "half_sum": lambda beta: -beta / 2 * errors.sum(),
    }
    same = equivalents(5000.0, errors.numel())
    assert same.keys() == CONVENTIONS.keys() == formulas.keys()
    assert float(formulas[convention](same[convention])) == pytest.approx(-2500 * float(errors.mean()), rel=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.floats(1e-6, 1e6), st.integers(1, 10**6), st.sampled_from(sorted(CONVENTIONS)))
def test_beta_goes_there_and_back(beta: float, elements: int, convention: str) -> None:
    """`equivalents` is the inverse of `to_half_mean`."""
    assert to_half_mean(equivalents(beta, elements)[convention], convention, elements) == pytest.approx(beta)


def test_an_unknown_convention_is_refused() -> None:
    """By the recipe's name, with what is known."""
    with pytest.raises(ValueError, match=r"beta_convention: expected one of .*half_mean.*got 'sum'"):
        to_half_mean(1.0, "sum", SD15)
