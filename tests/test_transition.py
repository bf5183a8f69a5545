"""Log-densities of transitions: ratios that are exactly 1, forwards that are counted, and the naive way's gradient."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from sampling_parts import (
    CPU,
    LATENT,
    ddim,
    flow,
    in_double,
    prompts,
    sampler,
    step_batch,
    tiny_net,
)
from test_reference import load_unet, perturb, unet_predict, with_lora
from torch import Tensor, nn

from mmpo.adapters import AdaptersOff, FrozenAdapter, FrozenCopy, Transitions
from mmpo.contracts import Batch, Condition, Reference
from mmpo.losses import LOSSES, PairLogps
from mmpo.losses.listwise import d3po
from mmpo.models.lora import trainable_parameters
from mmpo.sampling.chains import Chains, Prompts
from mmpo.sampling.step_wise import step_wise
from mmpo.sampling.stepper import Stepper, log_density
from mmpo.sampling.trajectories import trajectories

each_stepper = pytest.mark.parametrize(
    "stepper", [ddim(), ddim(kind="v_prediction"), flow()], ids=["epsilon", "v_prediction", "flow"]
)


def unet_prompts(ids: list[str]) -> Prompts:
    """Random embeddings of the tiny checkpoint's width."""
    random = torch.Generator().manual_seed(3)
    said = torch.randn(len(ids), 5, 16, generator=random)
    return Prompts(ids, {"prompt_embeds": said}, {"prompt_embeds": torch.randn(5, 16, generator=random)})


# ---- ratios ----


@each_stepper
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_ratio_to_the_behaviour_policy_is_exactly_1(
    stepper: Stepper, dtype: torch.dtype, guidance: float, sd_folder: Path
) -> None:
    """Sampled without gradient, trained with it: log-ratio exactly 0 where the forwards have one shape."""
    unet = with_lora(sd_folder, dtype)
    perturb(unet)
    said, model = unet_prompts(["a", "b"]), unet_predict(unet, dtype)
    unet.eval()
    chains = trajectories(sampler(model, stepper, guidance=guidance), said, 3, (4, 8, 8), CPU, shared=True)
    unet.train()
    adapter = Transitions(stepper, guidance)
    for step in range(stepper.count):
        batch = step_batch(chains, said, step)
        logp = adapter.logp(model, batch, adapter.draw(batch, 0))
        assert logp.requires_grad
        assert batch.transition is not None
        assert torch.equal(logp.detach(), batch.transition.behaviour)


@each_stepper
@torch.no_grad()
def test_another_shape_of_batch_changes_the_ratio_by_rounding_alone(stepper: Stepper, sd_folder: Path) -> None:
    """One group at a time: 1e-6 of what a log-density's terms are."""
    said, model = unet_prompts(["a", "b"]), unet_predict(load_unet(sd_folder), torch.float32)
    chains = trajectories(sampler(model, stepper), said, 3, (4, 8, 8), CPU, shared=True)
    adapter = Transitions(stepper, 3.0)
    for step in range(stepper.count):
        for place in range(2):
            one = Chains(
                chains.states[place : place + 1], chains.behaviour[place : place + 1], chains.first, chains.shared
            )
            alone = Prompts(["x"], {k: v[place : place + 1] for k, v in said.condition.items()}, said.empty)
            batch = step_batch(one, alone, step)
            logp = adapter.logp(model, batch, adapter.draw(batch, 0))
            torch.testing.assert_close(logp, one.behaviour[:, :, step], rtol=1e-6, atol=1e-6)


def references() -> dict[str, Callable[[Path], tuple[nn.Module, Reference]]]:
    """Each kind of reference with the policy that it fits, before the first update."""

    def new_lora(folder: Path) -> tuple[nn.Module, Reference]:
        unet = with_lora(folder, dropout=0.1)
        return unet, AdaptersOff(unet)

    def started_lora(folder: Path) -> tuple[nn.Module, Reference]:
        unet = with_lora(folder)
        perturb(unet)
        return unet, FrozenAdapter(unet)

    def whole(folder: Path) -> tuple[nn.Module, Reference]:
        unet = load_unet(folder).train().requires_grad_(True)
        return unet, FrozenCopy(unet)

    return {"adapters_off": new_lora, "frozen_adapter": started_lora, "frozen_copy": whole}


@pytest.mark.parametrize("name", sorted(references()))
@pytest.mark.parametrize("stepper", [ddim(), flow()], ids=["ddim", "flow"])
def test_the_ratio_to_the_reference_is_exactly_1_at_the_start(name: str, stepper: Stepper, sd_folder: Path) -> None:
    """And after an update it is not, until the reference is refreshed."""
    unet, reference = references()[name](sd_folder)
    said = unet_prompts(["a", "b"])
    model = unet_predict(unet, torch.float32)
    chains = trajectories(sampler(model, stepper), said, 2, (4, 8, 8), CPU, shared=False)
    adapter, batch = Transitions(stepper, 3.0), step_batch(chains, said, 1)

    def log_ratio() -> Tensor:
        draw = adapter.draw(batch, 0)
        with torch.no_grad(), reference.active() as module:
            theirs = adapter.logp(unet_predict(module, torch.float32), batch, draw)
        return adapter.logp(model, batch, draw).detach() - theirs

    assert not log_ratio().any()
    perturb(unet)
    unet.eval()
    assert log_ratio().all()
    if not isinstance(reference, AdaptersOff):
        reference.refresh()
        assert not log_ratio().any()
        perturb(unet)
        assert log_ratio().all()


# ---- forwards ----


class Split:
    """A model that counts the rows of its forwards, those with gradient apart."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.policy, self.reference = model, [], []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        (self.policy if torch.is_grad_enabled() else self.reference).append(len(x))
        return self.model(x, timesteps, condition)


def forwarded(batch: Batch, stepper: Stepper, guidance: float = 3.0) -> Split:
    """What a training step asks of both models for this batch."""
    model, adapter = Split(tiny_net()), Transitions(stepper, guidance)
    draw = adapter.draw(batch, 0)
    adapter.logp(model, batch, draw)
    with torch.no_grad():
        adapter.logp(model, batch, draw)
    return model


def pair_of_steps(stepper: Stepper, inner: int = 1) -> tuple[list[Chains], Prompts]:
    """Two chains of each comparison of SPO's resampler."""
    said = prompts(["a"])

    def score(clean: Tensor, timestep: float) -> Tensor:
        return clean.flatten(2).mean(2)

    found = step_wise(sampler(tiny_net(), stepper), said, 2, LATENT, CPU, score, first=1, inner=inner)
    return [compared.chains for compared in found], said


def test_spo_trains_a_stored_step_with_one_forward_of_each_model() -> None:
    """Winner and loser share their parent: 1 policy and 1 reference forward of 1 row (2 with guidance); theirs: 2, 2.

    In the multi-step variant that holds for the first step of a branch; then they are apart.
    """
    stepper = ddim(6)
    for inner, steps in ((1, 1), (2, 2)):
        chains, said = pair_of_steps(stepper, inner)
        for chain in chains:
            for step in range(min(steps, chain.steps)):
                model = forwarded(step_batch(chain, said, step), stepper)
                rows = [2] if step == 0 else [4]
                assert (model.policy, model.reference) == (rows, rows)
    assert forwarded(step_batch(chains[0], said, 0), stepper, guidance=1.0).policy == [1]


@pytest.mark.parametrize("size", [2, 5])
def test_d3po_trains_a_step_of_a_group_with_one_forward_of_its_parents(size: int) -> None:
    """K rows in one forward of each model for K(K − 1)/2 pairs; one row where the start is shared."""
    stepper, said = ddim(), prompts(["a", "b"])
    for shared in (True, False):
        chains = trajectories(sampler(tiny_net(), stepper), said, size, LATENT, CPU, shared=shared)
        for step in range(4):
            model = forwarded(step_batch(chains, said, step), stepper, guidance=1.0)
            rows = [2 * (1 if shared and step == 0 else size)]
            assert (model.policy, model.reference) == (rows, rows)


# ---- the naive way ----


def naive_logp(model: Any, stepper: Stepper, batch: Batch, group: int, candidate: int, guidance: float) -> Tensor:
    """[]: as the authors' code has it: the candidate's own forwards, prompt and empty prompt one after the other."""
    came = batch.transition
    assert came is not None
    x = came.parents[came.parent[group, candidate]].unsqueeze(0)
    step = came.step[group : group + 1]
    time = stepper.timesteps[step]
    said = {name: value[group] for name, value in batch.condition.items()}
    empty = {name: value.unsqueeze(0) for name, value in batch.null_condition.items()}
    away, toward = model(x, time, empty), model(x, time, said)
    mean = stepper.mean(away + guidance * (toward - away), x, step)
    return log_density(batch.latent_mean[group, candidate].unsqueeze(0), mean, stepper.std[step])[0]


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """[P] of a loss by all weights."""
    parameters = list(model.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def alike(ours: Tensor, naive: Tensor) -> None:
    """To 1e-6 of the gradient's length, and there is one."""
    assert naive.norm() > 0
    assert (ours - naive).norm() <= 1e-6 * naive.norm()


def two_models() -> tuple[Any, Any]:
    """Policy and reference in float64."""
    return tiny_net(0, torch.float64), tiny_net(0, torch.float64)


def move_to_the_clip(models: tuple[Any, Any], adapter: Transitions, batch: Batch) -> float:
    """Moves the policy's weights so far that some ratios of the batch, not all, are beyond the clip; their share."""
    direction = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(4)).double()
    size, share = 0.5, 1.0
    while share == 1:
        size /= 1.2
        with torch.no_grad():
            models[0].model.kernel.copy_(models[1].model.kernel + size * direction)
        policy, reference = logps(models, adapter, batch)
        share = float(((policy - reference).exp() - 1).abs().gt(0.1).double().mean())
    return share


def logps(models: tuple[Any, Any], adapter: Transitions, batch: Batch) -> tuple[Tensor, Tensor]:
    draw = adapter.draw(batch, 0)
    with torch.no_grad():
        reference = adapter.logp(models[1], batch, draw)
    return adapter.logp(models[0], batch, draw), reference


@each_stepper
def test_d3pos_gradient_is_that_of_separate_forwards(stepper: Stepper) -> None:
    """Every pair and side forwarded anew, K(K − 1)/2 pairs of a group: 1e-6 in float64; fewer forwards by far."""
    models, options = two_models(), {"beta": 0.1, "clip": 0.1}
    said = prompts(["a", "b"], torch.float64)
    ours = sampler(lambda *given: models[0](given[0].double(), *given[1:]), stepper)
    chains = trajectories(ours, said, 4, LATENT, CPU, shared=True)
    adapter, shares = Transitions(stepper, 3.0), []
    for step in range(stepper.count):
        batch = in_double(step_batch(chains, said, step, better=[2, 0, 3, 1]))
        shares.append(move_to_the_clip(models, adapter, batch))
        policy, reference = logps(models, adapter, batch)
        assert batch.scores is not None
        assert batch.transition is not None
        loss = d3po(policy, reference, scores=batch.scores, wins=batch.transition.wins, **options).mean()
        for model in models:
            model.rows.clear()
        losses = []
        for group in range(2):
            for pair in combinations(range(4), 2):
                sides = [naive_logp(models[0], stepper, batch, group, k, 3.0) for k in pair]
                with torch.no_grad():
                    against = [naive_logp(models[1], stepper, batch, group, k, 3.0) for k in pair]
                both = [PairLogps(*(x.unsqueeze(0) for x in xs)) for xs in (sides, against)]
                losses.append(LOSSES["clipped_dpo"](*both, **options))
        naive = torch.stack(losses).sum() / 2
        assert len(models[0].rows) == 2 * 2 * 12  # theirs: K(K − 1) forwards of a group, twice for guidance
        torch.testing.assert_close(loss, naive, rtol=1e-10, atol=0)
        alike(gradient(models[0], loss), gradient(models[0], naive))
    assert max(shares) > 0


@pytest.mark.parametrize("inner", [1, 2])
def test_spos_gradient_is_that_of_separate_forwards(inner: int) -> None:
    """Two forwards of each model for a pair that shares its parent, as in the source."""
    stepper, models, options = ddim(6), two_models(), {"beta": 10.0, "clip": 0.1}
    chains, said = pair_of_steps(stepper, inner)
    said = Prompts(said.ids, *({k: v.double() for k, v in part.items()} for part in (said.condition, said.empty)))
    adapter = Transitions(stepper, 3.0)
    for chain in chains:
        for step in range(chain.steps):
            batch = in_double(step_batch(chain, said, step))
            move_to_the_clip(models, adapter, batch)
            policy, reference = logps(models, adapter, batch)
            both = [PairLogps(*x.unbind(1)) for x in (policy, reference)]
            loss = LOSSES["clipped_dpo"](*both, **options).mean()
            sides = [naive_logp(models[0], stepper, batch, 0, k, 3.0) for k in range(2)]
            naive = LOSSES["clipped_dpo"](PairLogps(*(x.unsqueeze(0) for x in sides)), both[1], **options).mean()
            torch.testing.assert_close(loss, naive, rtol=1e-10, atol=0)
            alike(gradient(models[0], loss), gradient(models[0], naive))


def test_the_empty_prompts_branch_is_trained_too() -> None:
    """As in the source, guidance is not detached: the gradient is (1 − g) of the one and g of the other."""
    stepper, said, model = ddim(), prompts(["a"], torch.float64), tiny_net(0, torch.float64)
    ours = sampler(lambda *given: model(given[0].double(), *given[1:]), stepper)
    batch = in_double(step_batch(trajectories(ours, said, 2, LATENT, CPU, shared=True), said, 0))
    null = {name: value.clone().requires_grad_() for name, value in batch.null_condition.items()}
    object.__setattr__(batch, "null_condition", null)
    adapter = Transitions(stepper, 3.0)
    adapter.logp(model, batch, adapter.draw(batch, 0)).sum().backward()
    grad = null["prompt_embeds"].grad
    assert grad is not None
    assert grad.abs().max() > 0


def test_a_batch_of_images_is_refused() -> None:
    from surrogates import make_batch

    adapter = Transitions(ddim())
    with pytest.raises(ValueError, match=r"adapter transition: takes states of a sampler.*rollout"):
        adapter.draw(make_batch(), 0)


def test_trainable_weights_of_the_policy_alone_get_a_gradient(sd_folder: Path) -> None:
    """The reference before the policy, as a step does it."""
    unet, stepper, said = with_lora(sd_folder), ddim(), unet_prompts(["a"])
    reference, model = AdaptersOff(unet), unet_predict(unet, torch.float32)
    chains = trajectories(sampler(model, stepper), said, 2, (4, 8, 8), CPU, shared=True)
    adapter, batch = Transitions(stepper, 3.0), step_batch(chains, said, 1)
    with torch.no_grad(), reference.active() as module:
        theirs = adapter.logp(unet_predict(module, torch.float32), batch, adapter.draw(batch, 0))
    ours = adapter.logp(model, batch, adapter.draw(batch, 0))
    LOSSES["clipped_dpo"](
        PairLogps(*ours.unbind(1)), PairLogps(*theirs.unbind(1)), beta=10.0, clip=0.1
    ).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in trainable_parameters(unet).values())
    assert all(p.grad is None for name, p in unet.named_parameters() if "lora_" not in name)
