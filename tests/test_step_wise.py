"""SPO's resampler and its comparisons: who branches, who goes on, what is scored when, and what is kept."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from sampling_parts import CPU, LATENT, ddim, flow, prompts, sampler, tiny_net
from torch import Tensor

from mmpo.sampling.comparisons import dominance, extremes, threshold_at
from mmpo.sampling.step_wise import Compared, step_wise
from mmpo.sampling.trajectories import trajectories

IDS = ["a", "b"]


class Scorer:
    """Scores by the mean of x̂0, and remembers what it was shown."""

    def __init__(self) -> None:
        self.timesteps: list[float] = []
        self.seen: list[Tensor] = []

    def __call__(self, clean: Tensor, timestep: float) -> Tensor:
        self.timesteps.append(timestep)
        self.seen.append(clean)
        return clean.flatten(2).mean(2)


def resample(
    steps: int = 6, *, first: int = 2, inner: int = 1, candidates: int = 3, ids: list[str] = IDS, seed: int = 0
) -> tuple[list[Compared], Scorer, list[int]]:
    """(comparisons, the scorer, rows of each forward)."""
    model, scorer = tiny_net(), Scorer()
    ours = sampler(model, ddim(steps), guidance=1.0, seed=seed)
    with torch.no_grad():
        found = list(step_wise(ours, prompts(ids), candidates, LATENT, CPU, scorer, first=first, inner=inner))
    return found, scorer, model.rows


def continued(before: Compared, after: Compared) -> list[int]:
    """Of each group the candidate that went on."""
    ends, start = before.chains.states[:, :, -1], after.chains.states[:, 0, 0]
    same = (ends == start.unsqueeze(1)).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.long().argmax(1).tolist()


def test_candidates_branch_from_one_state_after_the_first_steps() -> None:
    """Comparisons at steps 2 to 5 of 6; scored at the timestep of their own state, the last ones as images."""
    found, scorer, _ = resample()
    assert [compared.chains.first for compared in found] == [2, 3, 4, 5]
    times = ddim(6).timesteps.tolist()
    assert scorer.timesteps == [*times[3:], 0]
    for compared, clean in zip(found, scorer.seen, strict=True):
        assert compared.chains.shared
        assert compared.chains.states.shape == (2, 3, 2, *LATENT)
        assert compared.chains.behaviour.shape == (2, 3, 1)
        parents = compared.chains.states[:, :, 0]
        assert torch.equal(parents, parents[:, :1].expand_as(parents))
        assert torch.equal(compared.scores, clean.flatten(2).mean(2))
    assert torch.equal(scorer.seen[-1], found[-1].chains.states[:, :, -1])
    for before, after in pairwise(found):
        continued(before, after)


def test_the_first_steps_are_an_ordinary_trajectory() -> None:
    """State 2 is that of the sampler's own first candidate, noise and all."""
    found, _, _ = resample()
    ordinary = trajectories(sampler(tiny_net(), ddim(6), guidance=1.0), prompts(IDS), 1, LATENT, CPU, shared=True)
    torch.testing.assert_close(found[0].chains.states[:, 0, 0], ordinary.states[:, 0, 2], rtol=1e-6, atol=1e-6)
    from_noise, _, _ = resample(first=0)
    assert len(from_noise) == 6
    assert torch.equal(from_noise[0].chains.states[:, 0, 0], ordinary.states[:, 0, 0])


def test_no_forward_is_done_twice() -> None:
    """One for each step: of the trajectory, then of all candidates, whose x̂0 and next step it gives."""
    for inner in (1, 2, 4):
        _, _, rows = resample(9, first=1, inner=inner)
        branching = [6] * 7  # states 2 to 8; the image needs no prediction
        assert rows == [2, 2, *branching]
    _, _, rows = resample(6, first=5)
    assert rows == [2] * 6


def test_x0_is_the_prediction_at_the_candidates_own_state() -> None:
    """A forward made anew agrees."""
    found, scorer, _ = resample()
    ours, said = sampler(tiny_net(), ddim(6), guidance=1.0), prompts(IDS)
    for compared, clean in zip(found[:-1], scorer.seen, strict=False):
        ends, step = compared.chains.states[:, :, -1], compared.chains.first + 1
        with torch.no_grad():
            expected = ours.clean(ours.predict(ends, said, step), ends, step)
        torch.testing.assert_close(clean, expected, rtol=1e-6, atol=1e-6)


def test_branches_of_four_steps_end_at_the_image() -> None:
    """The multi-step variant: comparisons at 1, 5 and, with a shorter last branch, 9 of 11 steps."""
    found, scorer, _ = resample(11, first=1, inner=4)
    assert [(compared.chains.first, compared.chains.steps) for compared in found] == [(1, 4), (5, 4), (9, 2)]
    times = ddim(11).timesteps.tolist()
    assert scorer.timesteps == [times[5], times[9], 0]
    for compared in found:
        states = compared.chains.states
        assert (states[:, :, 0] == states[:, :1, 0]).all()
        apart = states[:, :, 1:]
        assert not (apart[:, 0] == apart[:, 1]).any()  # after the first step each goes on its own
    for before, after in pairwise(found):
        continued(before, after)
    assert torch.equal(scorer.seen[-1], found[-1].chains.states[:, :, -1])
    whole, scorer, _ = resample(20, first=4, inner=4)
    assert [compared.chains.first for compared in whole] == [4, 8, 12, 16]  # the source's, compared at 8, 12, 16, image
    assert scorer.timesteps == [*(float(t) for t in ddim(20).timesteps[[8, 12, 16]]), 0]


def test_a_random_candidate_goes_on() -> None:
    """By seed and prompt, uniform whatever the scores: 500 choices among 4."""
    ids = [str(number) for number in range(100)]
    found, _, _ = resample(6, first=0, candidates=4, ids=ids)
    chosen = [continued(before, after) for before, after in pairwise(found)]
    counts = torch.tensor(chosen).flatten().bincount(minlength=4)
    assert counts.sum() == 500
    assert ((counts - 125) ** 2 / 125).sum() < 16.3  # χ² with 3 degrees of freedom, 0.1 %
    best = [compared.scores.argmax(1).tolist() for compared in found[:-1]]
    agree = torch.tensor(best).eq(torch.tensor(chosen)).double().mean()
    assert abs(float(agree) - 0.25) < 0.08
    again, _, _ = resample(6, first=0, candidates=4, ids=ids)
    assert torch.equal(found[-1].chains.states, again[-1].chains.states)
    other, _, _ = resample(6, first=0, candidates=4, ids=ids, seed=1)
    assert [continued(before, after) for before, after in pairwise(other)] != chosen


def test_a_group_does_not_depend_on_the_others() -> None:
    """The same comparisons in another batch of the same shape."""
    first, turned = resample(ids=["a", "b"])[0], resample(ids=["c", "a"])[0]
    for one, other in zip(first, turned, strict=True):
        assert torch.equal(one.chains.states[0], other.chains.states[1])
        assert torch.equal(one.scores[0], other.scores[1])


# ---- comparisons ----


def test_a_comparison_is_kept_where_the_shares_differ_by_more_than_the_threshold() -> None:
    """p = softmax([s_w, s_l]); p_w − p_l > threshold, by the shares themselves."""
    scores = torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.3, 0.1], [4.0, 4.0, 4.0], [-1.0, 2.0, 0.0]])
    pair, _ = extremes(scores, 0.0)
    assert pair[[0, 1, 3]].tolist() == [[0, 1], [1, 2], [1, 0]]
    shares = torch.tensor([row[pair].softmax(0).tolist() for row, pair in zip(scores, pair, strict=True)])
    gaps = (shares[:, 0] - shares[:, 1]).double()
    for threshold in (0.0, 0.05, 0.3, 0.4, 0.5, 0.9):
        assert extremes(scores, threshold)[1].tolist() == (gaps > threshold).tolist()
    exact = math.tanh(0.5)  # of scores 1 and 0
    assert extremes(scores[:1].double(), exact - 1e-9)[1].item()
    assert not extremes(scores[:1].double(), exact + 1e-9)[1].item()
    assert extremes(scores, 0.4, scale=10.0)[1].tolist() == [True, True, False, True]
    each = torch.tensor([0.9, 0.0, 0.0, 0.0])
    assert extremes(scores, each)[1].tolist() == [False, True, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_drops_the_comparison(bad: float) -> None:
    """Its group alone, wherever it stands."""
    for place in range(3):
        scores = torch.tensor([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5]])
        scores[0, place] = bad
        pair, keep = extremes(scores, 0.0)
        assert keep.tolist() == [False, True]
        assert pair[1].tolist() == [1, 0]
    assert extremes(torch.full((1, 3), bad), 0.0)[1].tolist() == [False]


def test_thresholds_rise_with_the_noise_of_the_step() -> None:
    """LPO's: from low where σ is least to high where it is most, linear in σ; one number is itself everywhere."""
    stepper = ddim(20)
    found = [threshold_at((0.35, 0.5), stepper.std, step) for step in range(20)]
    assert found[int(stepper.std.argmax())] == pytest.approx(0.5)
    assert found[int(stepper.std.argmin())] == pytest.approx(0.35)
    shares = (stepper.std - stepper.std.min()) / (stepper.std.max() - stepper.std.min())
    assert found == pytest.approx([0.35 + 0.15 * float(share) for share in shares])
    assert threshold_at(0.3, stepper.std, 7) == 0.3
    level = torch.full((4,), 0.1)
    assert threshold_at([0.2, 0.4], level, 2) == pytest.approx(0.2)


def test_pareto_dominance_is_the_sources() -> None:
    """At least as good by every reward and better by one; written out for each pair of random small scores."""
    scores = torch.randint(0, 3, (2, 30, 4), generator=torch.Generator().manual_seed(1)).float()
    wins = dominance(scores)
    ties = 0
    for group in range(30):
        for i in range(4):
            for j in range(4):
                mine, other = scores[:, group, i].tolist(), scores[:, group, j].tolist()
                at_least = all(a >= b for a, b in zip(mine, other, strict=True))
                better = any(a > b for a, b in zip(mine, other, strict=True))
                assert bool(wins[group, i, j]) == (at_least and better)
                ties += i < j and not wins[group, i, j] and not wins[group, j, i]
    assert ties > 20
    assert not (wins & wins.transpose(1, 2)).any()
    one = dominance(torch.tensor([[[3.0, 1.0, 2.0, 1.0]]]))[0]
    assert one.sum(1).tolist() == [3, 0, 2, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_candidate_without_a_score_wins_and_loses_nothing(bad: float) -> None:
    scores = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, bad, 3.0]]])
    assert dominance(scores)[0].tolist() == [[False] * 3, [False] * 3, [True, False, False]]


def test_flow_models_are_resampled_alike() -> None:
    scorer = Scorer()
    with torch.no_grad():
        found = list(step_wise(sampler(tiny_net(), flow(5)), prompts(IDS), 2, LATENT, CPU, scorer, first=1))
    assert [compared.chains.first for compared in found] == [1, 2, 3, 4]
    assert scorer.timesteps[-1] == 0
    assert scorer.timesteps[0] == pytest.approx(float(flow(5).timesteps[2]))
