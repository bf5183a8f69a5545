"""Samplers, prompts and counted models for the tests of own samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from surrogates import TinyNet
from torch import Tensor, nn

from mmpo.contracts import Batch, Condition, Transition
from mmpo.random_streams import generator
from mmpo.sampling.chains import Chains, Prompts, Sampler
from mmpo.sampling.ddim import Ddim
from mmpo.sampling.flow_sde import FlowSde
from mmpo.sampling.stepper import Stepper

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
}
LATENT = (4, 4, 4)
CPU = torch.device("cpu")


def ddim(steps: int = 4, eta: float = 1.0, kind: str = "epsilon") -> Ddim:
    """Stable Diffusion's schedule."""
    return Ddim.from_config({**SCHEDULER, "prediction_type": kind}, steps=steps, eta=eta)


def flow(steps: int = 4, eta: float = 0.7) -> FlowSde:
    """Stable Diffusion 3's."""
    return FlowSde.from_config({"shift": 3.0}, steps=steps, eta=eta)


class Counted(nn.Module):
    """A model that counts its forwards and their rows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.rows: list[int] = []

    def forward(self, x: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        self.rows.append(len(x))
        return self.model(x, timesteps, condition)


def tiny_net(seed: int = 0, dtype: torch.dtype = torch.float32) -> Counted:
    """A counted convolution that depends on image, time and prompt."""
    return Counted(TinyNet(seed, dtype))


def prompts(ids: Sequence[str], dtype: torch.dtype = torch.float32) -> Prompts:
    """Random embeddings, each by its id alone."""

    def embedding(name: str) -> Tensor:
        return torch.randn(5, 6, generator=generator(0, name, 0, "embedding"), dtype=torch.float64).to(dtype)

    said = torch.stack([embedding(name) for name in ids])
    return Prompts(list(ids), {"prompt_embeds": said}, {"prompt_embeds": embedding("")})


def sampler(model: Any, stepper: Stepper, *, guidance: float = 3.0, **options: Any) -> Sampler:
    return Sampler(model, stepper, guidance, **options)


def step_batch(chains: Chains, said: Prompts, step: int, *, better: Sequence[int] | None = None) -> Batch:
    """One step of every group's chains as a batch: what stored rollouts give, made by hand.

    Args:
        step: of the chains, from 0.
        better: places of the candidates, best first; all pairs are compared.
    """
    order = list(better or range(chains.states.shape[1]))
    states = chains.states[:, order]
    count, size = states.shape[:2]
    own = 1 if chains.shared and step == 0 else size
    ranks = torch.arange(size)
    return Batch(
        ids=list(said.ids),
        visits=[0] * count,
        latent_mean=states[:, :, step + 1],
        latent_std=torch.zeros_like(states[:, :, step + 1]),
        condition={name: value.unsqueeze(1) for name, value in said.condition.items()},
        null_condition=dict(said.empty),
        scores=-ranks.float().expand(count, size),
        mask=torch.ones(count, size, dtype=torch.bool),
        transition=Transition(
            parents=states[:, :own, step].flatten(0, 1),
            group=torch.arange(count).repeat_interleave(own),
            parent=torch.arange(count * own).view(count, own).expand(count, size)
            if own == 1
            else torch.arange(count * own).view(count, own),
            step=torch.full((count,), chains.first + step),
            behaviour=chains.behaviour[:, order, step],
            wins=(ranks.unsqueeze(1) < ranks).expand(count, size, size),
        ),
    )


def in_double(batch: Batch) -> Batch:
    """The same in float64."""
    made = batch.to("cpu", torch.float64)
    assert made.transition is not None
    return replace(made, transition=replace(made.transition, behaviour=made.transition.behaviour.double()))


def rollout_tree(model: Path | str, output: Path, **changes: Any) -> dict[str, Any]:
    """A small recipe on own samples, as plain dictionaries; `changes` are "section__key" values of it.

    Its reward is a hash of image and prompt: any bit of an image that differs shows in the metrics.
    """
    texts = output.parent / "prompts.txt"
    texts.parent.mkdir(parents=True, exist_ok=True)
    texts.write_text("".join(f"a {colour} {thing}\n" for colour in ("red", "blue") for thing in ("cat", "dog", "moon")))
    tree: dict[str, Any] = {
        "model": {"path": str(model), "lora": {"rank": 4}},
        "data": {"cache": str(output.parent / "cache")},
        "rollout": {
            "prompts": str(texts),
            "prompts_per_round": 4,
            "candidates": 2,
            "sampling": {"steps": 3, "guidance": 2.0, "batch_size": 4},
            "rewards": ["random"],
        },
        "method": {"loss": "d3po", "beta": 0.1},
        "optim": {"lr": 1e-3, "schedule": "constant"},
        "train": {"steps": 6, "batch_size": 4, "precision": "fp32", "checkpoint_every": 2, "report_to": []},
        "evaluation": {"previews": {"count": 0}},
        "output": str(output),
    }
    for name, value in changes.items():
        section, key = name.split("__")
        tree[section][key] = value
    return tree


STEP_WISE = {"kind": "step_wise", "first_step": 1, "candidates": 3}
"""Of a rollout: SPO's resampler."""
SPO = {"loss": "clipped_dpo", "beta": 10.0}
