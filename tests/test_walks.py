"""Trajectories: diffusers' own without noise, independent of their batch, and their log-densities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import tiny
import torch
from sampling_parts import CPU, LATENT, ddim, flow, prompts, sampler, tiny_net
from test_families import conditions, loaded
from torch import Tensor
from torch.distributions import Normal

from mmpo.models.checkpoint import config_of
from mmpo.models.families import call_options
from mmpo.sampling.chains import Prompts, Sampler
from mmpo.sampling.ddim import Ddim
from mmpo.sampling.flow_sde import FlowSde
from mmpo.sampling.stepper import Stepper
from mmpo.sampling.trajectories import trajectories, walk

TEXTS = ["a red cat", "the moon", "a dog"]
each_kind = pytest.mark.parametrize(
    "stepper", [ddim(), ddim(kind="v_prediction"), flow()], ids=["epsilon", "v_prediction", "flow"]
)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """A random checkpoint of each family, and one of v-prediction."""
    root = tmp_path_factory.mktemp("walks")
    made = {name: loaded(make(root / name)) for name, make in tiny.MAKERS.items()}
    return {**made, "sd-v": loaded(tiny.make_sd(root / "sd-v", prediction_type="v_prediction"))}


# ---- without noise ----


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("name", ["sd", "sd-v", "sdxl", "sd3"])
@torch.no_grad()
def test_without_noise_the_walk_is_the_pipelines_bit_for_bit(
    name: str, guidance: float, pipelines: Mapping[str, Any]
) -> None:
    """The latents of diffusers' pipeline from the same noise, all families, with guidance and without."""
    from diffusers import DDIMScheduler

    pipeline = pipelines[name]
    config = config_of(pipeline, "here")
    stepper: Stepper
    if name == "sd3":
        stepper = FlowSde.from_config(pipeline.scheduler.config, steps=4, eta=0.0)
    else:
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        stepper = Ddim.from_config(pipeline.scheduler.config, steps=4, eta=0.0)
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipeline(
        TEXTS,
        num_inference_steps=4,
        guidance_scale=guidance,
        latents=noise,
        output_type="latent",
        **call_options(pipeline),
    ).images
    denoiser, said = getattr(pipeline, config.family.denoiser), conditions(pipeline, TEXTS)
    nothing = conditions(pipeline, [""] * len(TEXTS))  # a batch of the pipeline's size, which rounds alike
    empty = {key: value[0] for key, value in nothing.items() if key != "time_ids"}
    ours = Sampler(lambda *given: config.family.predict(denoiser, *given), stepper, guidance)
    *_, last = walk(ours, Prompts(TEXTS, said, empty), noise.unsqueeze(1))
    assert torch.equal(last.following.squeeze(1), theirs)
    assert not last.logp.any()


def test_a_sampler_sees_every_step(pipelines: Mapping[str, Any]) -> None:
    """What a scorer may look at: state, x̂0 and the next state, chained; a shared start is forwarded once."""
    for shared in (False, True):
        model = tiny_net()
        ours, said = sampler(model, ddim(), guidance=1.0), prompts(["a", "b"])
        x = ours.start(said, 3, LATENT, shared=shared)
        visits = list(walk(ours, said, x, shared=shared))
        assert [visit.step for visit in visits] == [0, 1, 2, 3]
        assert torch.equal(visits[0].x, x)
        for before, after in pairwise(visits):
            assert torch.equal(before.following, after.x)
        assert all(visit.clean.shape == visit.x.shape == (2, 3, *LATENT) for visit in visits)
        assert model.rows == [2 if shared else 6, 6, 6, 6]
        one = sampler(model, ddim(), guidance=1.0)
        clean = one.clean(one.predict(x, said, 0), x, 0)
        torch.testing.assert_close(visits[0].clean, clean, rtol=1e-6, atol=1e-6)


# ---- log-densities ----


@each_kind
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_behaviour_is_the_density_of_each_step(stepper: Stepper, reduce: Any) -> None:
    """Of the states that were kept, by an independent Gaussian around a mean computed anew in float64."""
    model, said = tiny_net(dtype=torch.float64), prompts(["a", "b"], torch.float64)
    ours = sampler(lambda x, t, c: model(x.double(), t, c), stepper, reduce=reduce)
    chains = trajectories(ours, said, 2, LATENT, CPU, shared=True)
    for step in range(stepper.count):
        x, following = chains.states[:, :, step].double(), chains.states[:, :, step + 1].double()
        mean = ours.mean(ours.predict(x, said, step), x, step)
        independent = getattr(Normal(mean, stepper.std[step].double()).log_prob(following), reduce)((2, 3, 4))
        scale = 1 if reduce == "mean" else 64
        # the states are kept in float32, which moves a state by 1e-7 of the deviation's inverse
        torch.testing.assert_close(chains.behaviour[:, :, step].double(), independent, rtol=1e-5, atol=2e-5 * scale)


# ---- independence ----


@each_kind
def test_a_trajectory_does_not_depend_on_what_it_is_sampled_with(stepper: Stepper) -> None:
    """Alone, with others, and in another order: the same but for the rounding of another shape of batch."""
    ours = sampler(tiny_net(), stepper)

    def sampled(*ids: str, shared: bool = True) -> dict[str, Tensor]:
        chains = trajectories(ours, prompts(ids), 3, LATENT, CPU, shared=shared)
        return dict(zip(ids, chains.states, strict=True))

    with torch.no_grad():
        for shared in (True, False):
            together, turned = sampled("a", "b", "c", shared=shared), sampled("c", "d", "a", shared=shared)
            alone = sampled("a", shared=shared)
            assert torch.equal(together["a"], turned["a"])  # one shape of batch: bit for bit
            assert torch.equal(together["c"], turned["c"])
            torch.testing.assert_close(alone["a"], together["a"], rtol=1e-5, atol=1e-5)
            assert not torch.allclose(together["a"], together["b"], atol=0.1)


def test_noise_is_counted_by_seed_id_round_candidate_and_step() -> None:
    """Each changes it, and nothing else does; the first candidate's start is the shared one."""
    base = {"seed": 1, "visit": 2}
    stepper, said = ddim(), prompts(["a", "b"])
    like = torch.zeros(2, 3, *LATENT)

    def noise(step: int = 0, ids: Prompts = said, **changes: int) -> Tensor:
        return sampler(None, stepper, **{**base, **changes}).noise(ids, 3, step, like)

    first = noise()
    assert torch.equal(first, noise())
    assert torch.equal(first[1], noise(ids=prompts(["x", "b"]))[1])
    assert torch.equal(first[:, :2], sampler(None, stepper, **base).noise(said, 2, 0, like))
    for other in (noise(step=1), noise(seed=2), noise(visit=3), noise(ids=prompts(["b", "a"]))):
        assert not (first == other).any()
    flat = first.flatten(0, 1)
    assert all(not (flat[i] == flat[j]).any() for i in range(6) for j in range(i))
    own, shared = (sampler(None, stepper, **base).start(said, 3, LATENT, shared=shared) for shared in (False, True))
    assert torch.equal(own[:, 0], shared[:, 0])
    assert torch.equal(shared[:, 0], shared[:, 2])
    assert not (own[:, 0] == own[:, 1]).any()
    assert not (own[:, 0] == first[:, 0]).any()


def test_guidance_is_one_forward_of_two_rows() -> None:
    """The empty prompt first, as diffusers has it; none up to 1."""
    for guidance, rows in ((1.0, 2), (0.0, 2), (1.5, 4)):
        model = tiny_net()
        ours, said = sampler(model, ddim(), guidance=guidance), prompts(["a", "b"])
        x = ours.start(said, 1, LATENT, shared=True)
        found = ours.predict(x, said, 0)
        assert model.rows == [rows]
        apart = [
            model(x[:, 0], torch.full((2,), int(ours.stepper.timesteps[0])), {"prompt_embeds": c})
            for c in (said.empty["prompt_embeds"].expand(2, 5, 6), said.condition["prompt_embeds"])
        ]
        expected = apart[0] + guidance * (apart[1] - apart[0]) if guidance > 1 else apart[1]
        torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-6)
