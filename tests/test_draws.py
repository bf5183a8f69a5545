"""The draws of noise level, noise and dropped prompts: their distributions and what they depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from surrogates import ALPHAS, STEPS, TinyNet, each_adapter, make_batch, seen
from torch import Tensor

from mmpo.adapters import Denoising, Flow
from mmpo.contracts import Adapter, Batch, Draw


def take(batch: Batch, at: list[int]) -> Batch:
    """The groups at these positions, in this order."""
    return Batch(
        ids=[batch.ids[i] for i in at],
        visits=[batch.visits[i] for i in at],
        latent_mean=batch.latent_mean[at],
        latent_std=batch.latent_std[at],
        condition={name: value[at] for name, value in batch.condition.items()},
        null_condition=batch.null_condition,
    )


def parts(draw: Draw) -> tuple[Tensor, ...]:
    """The tensors of a draw."""
    return draw.time, draw.noise, draw.posterior_noise, draw.drop_prompt


@pytest.fixture(scope="module")
def many() -> Batch:
    """Five thousand groups of one number each."""
    return make_batch(count=5000, size=1, features=1)


def uniform_statistic(values: Tensor, bins: int) -> float:
    """Pearson's χ² of values in [0, 1) against equal bins; its mean is bins − 1."""
    counts = torch.histc(values.float(), bins, 0, 1)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


def test_timesteps_are_uniform_over_the_whole_schedule(many: Batch) -> None:
    """t in 0 .. T−1 with equal probability: each quantile (i + ½)/T is t = i, and quantiles are uniform.

    χ² with 49 degrees of freedom exceeds 85.4 with probability 0.001; the draws are fixed by their seed.
    """
    adapter = Denoising(ALPHAS)
    middle = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
    noise = torch.zeros(1)
    assert adapter.timestep(Draw(middle, noise, noise, noise)).tolist() == list(range(STEPS))
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert adapter.timestep(Draw(ends, noise, noise, noise)).tolist() == [0, STEPS - 1]
    for seed in (0, 1):
        steps = adapter.timestep(adapter.draw(many, seed))
        assert steps.dtype == torch.int64
        assert 0 <= steps.min() < 5
        assert STEPS - 5 <= steps.max() < STEPS
        assert uniform_statistic((steps + 0.5) / STEPS, 50) < 85.4


@each_adapter
def test_a_band_restricts_the_noise_level(many: Batch, adapter: Denoising | Flow) -> None:
    """Uniform in [low, high); the argument wins over the adapter's own range, which wins over the whole."""
    narrow = type(adapter)(**{**vars(adapter), "timesteps": (0.5, 0.6)})
    for draw, low, high in (
        (adapter.draw(many, 0, band=(0.25, 0.5)), 0.25, 0.5),
        (narrow.draw(many, 0), 0.5, 0.6),
        (narrow.draw(many, 0, band=(0.0, 0.1)), 0.0, 0.1),
    ):
        assert low <= draw.time.min()
        assert draw.time.max() < high
        assert uniform_statistic((draw.time - low) / (high - low), 50) < 85.4


def test_a_band_restricts_timesteps_and_sigmas(many: Batch) -> None:
    """The second quarter of 1000 steps is 250 .. 499; of the flow, everything between the quarter's quantiles."""
    steps = Denoising(ALPHAS).timestep(Denoising(ALPHAS).draw(many, 0, band=(0.25, 0.5)))
    assert 250 <= steps.min() < steps.max() <= 499
    sigma = Flow().sigma(Flow().draw(many, 0, band=(0.25, 0.5)))
    low = torch.sigmoid(torch.tensor(-0.6744897501960817))  # Φ^−1(¼)
    assert low <= sigma.min() < sigma.max() <= 0.5


@each_adapter
def test_a_draw_depends_on_seed_group_and_visit_alone(adapter: Adapter) -> None:
    """Not on the other groups of the batch, its order, or the group's place in it."""
    batch = make_batch(count=6)
    whole = parts(adapter.draw(batch, seed=7))
    for at in ([4], [5, 4, 3, 2, 1, 0], [1, 4, 2]):
        for part, value in zip(parts(adapter.draw(take(batch, at), seed=7)), whole, strict=True):
            assert torch.equal(part, value[at])


@each_adapter
def test_seed_group_and_visit_each_change_a_draw(adapter: Adapter) -> None:
    """And no two quantities of a draw are the same stream."""
    batch = make_batch(count=2)
    renamed = Batch(**{**vars(batch), "ids": ["0x", "1x"]})
    base = adapter.draw(batch, seed=1)
    for other in (
        adapter.draw(batch, seed=2),
        adapter.draw(batch, seed=1, visit=1),
        adapter.draw(batch, seed=11, visit=0),
        adapter.draw(renamed, seed=1),
    ):
        for part, value in zip(parts(other)[:3], parts(base)[:3], strict=True):
            assert not (part == value).any()
    assert not (base.noise[0] == base.noise[1]).any()
    assert not (base.noise[:, None] == base.posterior_noise).any()
    assert not (base.posterior_noise[:, 0] == base.posterior_noise[:, 1]).any()


def test_seed_group_and_visit_are_kept_apart() -> None:
    """Numbers that read the same when written one after another are different draws."""

    def noise(seed: int, group: str, visit: int) -> Tensor:
        batch = Batch(**{**vars(make_batch(count=1)), "ids": [group]})
        return Flow().draw(batch, seed, visit).noise

    assert not torch.equal(noise(1, "12", 0), noise(11, "2", 0))
    assert not torch.equal(noise(1, "1", 11), noise(1, "11", 1))
    assert torch.equal(noise(1, "12", 0), noise(1, "12", 0))


@each_adapter
def test_visits_come_from_the_batch_or_the_argument(adapter: Adapter) -> None:
    """None: the batch's own; a number: the same for all; a sequence: one a group; a wrong count is an error."""
    batch = Batch(**{**vars(make_batch(count=3)), "visits": [0, 5, 2]})
    expected = parts(adapter.draw(batch, 1))
    assert all(torch.equal(a, b) for a, b in zip(parts(adapter.draw(batch, 1, [0, 5, 2])), expected, strict=True))
    same = parts(adapter.draw(batch, 1, 5))
    assert torch.equal(same[1][1], expected[1][1])
    assert not torch.equal(same[1][0], expected[1][0])
    with pytest.raises(ValueError, match="shorter"):
        adapter.draw(batch, 1, [0, 5])


@each_adapter
def test_precision_does_not_change_a_draw(adapter: Adapter) -> None:
    """Times are float64 and noise float32 in every run, so runs in other precisions see the same randomness."""
    batch = make_batch()
    low, high = (adapter.draw(batch.to("cpu", dtype), 1) for dtype in (torch.float32, torch.float64))
    assert torch.equal(low.time, high.time)
    assert (low.noise.dtype, high.noise.dtype) == (torch.float32, torch.float64)
    assert torch.equal(low.noise.double(), high.noise)
    assert torch.equal(low.posterior_noise.double(), high.posterior_noise)


@each_adapter
def test_logp_takes_all_randomness_from_the_draw(adapter: Adapter) -> None:
    """The same draw gives the same numbers whatever the global generator did in between."""
    batch = make_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = adapter.logp(TinyNet(1), batch, draw)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        assert torch.equal(adapter.logp(TinyNet(1), batch, draw), first)
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)


@each_adapter
def test_candidates_of_a_group_share_time_and_noise(adapter: Adapter) -> None:
    """With equal clean latents the candidates' inputs are equal; groups differ."""
    batch = make_batch(count=3, candidates=4, std=0.0)
    batch = Batch(**{**vars(batch), "latent_mean": batch.latent_mean[:, :1].expand(-1, 4, -1, -1, -1)})
    noisy, timesteps, _ = seen(adapter, batch, adapter.draw(batch, seed=0))
    assert torch.equal(noisy, noisy[:, :1].expand_as(noisy))
    assert torch.equal(timesteps, timesteps[:, :1].expand_as(timesteps))
    assert len(timesteps[:, 0].unique()) == 3
    assert not torch.equal(noisy[0], noisy[1])


@each_adapter
def test_the_posterior_of_the_vae_is_sampled(adapter: Adapter) -> None:
    """x_0 = mean + std·noise, per candidate: a batch of those x_0 without deviation gives the same log-likelihoods."""
    batch = make_batch(std=0.7)
    draw = adapter.draw(batch, seed=0)
    sampled = batch.latent_mean + 0.7 * draw.posterior_noise
    fixed = Batch(**{**vars(batch), "latent_mean": sampled, "latent_std": torch.zeros_like(sampled)})
    with torch.no_grad():
        got, expected = (adapter.logp(TinyNet(1), x, draw) for x in (batch, fixed))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", [Denoising, Flow])
def test_the_share_of_dropped_prompts(many: Batch, kind: Any) -> None:
    """0.2 of 5000 has a deviation of 28; never at 0, always at 1; the other draws do not depend on the share."""
    make = (lambda p: Denoising(ALPHAS, prompt_dropout=p)) if kind is Denoising else (lambda p: Flow(prompt_dropout=p))
    draws = {share: make(share).draw(many, 0) for share in (0.0, 0.2, 1.0)}
    assert draws[0.0].drop_prompt.sum() == 0
    assert abs(int(draws[0.2].drop_prompt.sum()) - 1000) < 4 * 28
    assert draws[1.0].drop_prompt.all()
    assert torch.equal(draws[0.0].noise, draws[0.2].noise)
    assert torch.equal(draws[0.0].time, draws[0.2].time)


def test_filling_a_list_up_changes_no_noise() -> None:
    """A list of two in a batch whose longest has four sees what it sees alone."""
    batch = make_batch(count=3)
    longer = replace(batch, latent_mean=torch.cat([batch.latent_mean] * 2, 1), latent_std=batch.latent_std)
    short, long = (Denoising(ALPHAS).draw(x, seed=3, visit=0) for x in (batch, longer))
    count = batch.latent_mean.shape[1]
    assert long.posterior_noise.shape[1] == 2 * count
    assert torch.equal(short.posterior_noise, long.posterior_noise[:, :count])
    assert torch.equal(short.noise, long.noise)
