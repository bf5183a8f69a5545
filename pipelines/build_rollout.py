"""Wires a recipe's rollout: the sampler, the rewards, and the rounds that take the place of stored data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

import rewards
from mmpo.data.rollouts import RolloutGroups
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.families import long_prompts
from mmpo.recipe import Recipe
from mmpo.records import content_id
from mmpo.sampling.ddim import Ddim
from mmpo.sampling.flow_sde import FlowSde
from mmpo.sampling.stepper import Stepper, refuse_deterministic, trainable_steps
from mmpo.training.rounds import Rounds
from pipelines.build_stored import Bind, Feed, Say
from pipelines.checks import cache_folder
from pipelines.prepare import text_cache
from pipelines.prompts import load_prompts
from pipelines.rollout import OwnRounds, Studio
from pipelines.rollout_chunks import Maker

ETA = {"flow": 0.7}
"""Of a flow's SDE, as Flow-GRPO has it; diffusion has 1, which is DDPM."""


def stepper_of(recipe: Recipe, config: CheckpointConfig) -> Stepper:
    """The stochastic sampler of the recipe's rollout.

    Raises:
        ValueError: it has no noise, or the checkpoint's schedule is not supported.
    """
    assert recipe.rollout is not None
    sampling = recipe.rollout.sampling
    eta = ETA.get(config.prediction_type, 1.0) if sampling.eta is None else sampling.eta
    refuse_deterministic("rollout.sampling.eta", eta, "use above 0 (1 for diffusion, 0.7 for flow)")
    if config.prediction_type == "flow":
        return FlowSde.from_config(config.scheduler, steps=sampling.steps, eta=eta)
    if "EDM" in config.scheduler.get("_class_name", ""):
        raise ValueError(f"model.path {recipe.model.path}: its EDM schedule has no DDIM steps; it is not supported")
    made = Ddim.from_config(config.scheduler, steps=sampling.steps, eta=eta)
    if not trainable_steps(made):
        raise ValueError(f"rollout.sampling.steps: {sampling.steps} of this schedule have no noise; take more")
    return made


def rollout_feed(
    recipe: Recipe,
    config: CheckpointConfig,
    base: Any,
    accelerator: Accelerator,
    resolution: int,
    folder: Path,
    say: Say,
) -> Feed:
    """Own samples: prompts are encoded now, the rest is made round after round.

    Args:
        base: what training begins from; see `pipelines.build.Base`.
    """
    spec = recipe.rollout
    assert spec is not None
    prompts = load_prompts(spec.prompts, spec.limit)
    texts = list(dict.fromkeys(["", *(prompt.text for prompt in prompts)]))
    with accelerator.main_process_first():
        cache = text_cache(cache_folder(recipe.data), config, base.pipeline, base.hashes)
        new = [text for text in texts if text not in cache]
        if cut := long_prompts(base.pipeline, new):
            say(f"warning: {cut} prompts are longer than the text encoder takes; their ends are cut")
        for at in range(0, len(new), 64):
            cache.add(new[at : at + 64], config.family.encode_prompts(base.pipeline, new[at : at + 64]))
        cache.flush()
    loaded = [rewards.load(one.name, **one.options) for one in spec.rewards]
    side = resolution // config.downscale
    stepper, vae = stepper_of(recipe, config), base.pipeline.vae
    maker = Maker(
        spec=spec,
        rewards=loaded,
        vae=vae,
        processor=base.pipeline.image_processor,
        latent=(int(config.vae["latent_channels"]), side, side),
        size=(resolution, resolution),
        device=accelerator.device,
    )
    further = _further(config, resolution)

    @contextmanager
    def visit() -> Iterator[None]:
        vae.to(accelerator.device)
        try:
            yield
        finally:
            vae.to("cpu")

    def rounds(bind: Bind) -> Rounds:
        made_by = {
            "checkpoint": base.checkpoint,
            "rewards": [dict(getattr(reward, "identity", {"name": reward.name})) for reward in loaded],
            "resolution": resolution,
        }
        return OwnRounds(
            Studio(
                accelerator=accelerator,
                spec=spec,
                seed=recipe.train.seed,
                prompts=prompts,
                stepper=stepper,
                bind=bind,
                make=maker,
                texts=cache,
                further=further,
                folder=Path(recipe.data.path),
                run=folder,
                made_by=made_by,
                visit=visit,
            )
        )

    trained = len(trainable_steps(stepper))
    say(f"{len(prompts)} prompts, {spec.prompts_per_round} a round; {trained} of {stepper.count} steps have a density")
    empty = RolloutGroups([], cache, lambda row, scores: scores > 0, lambda row, count: range(count))
    return Feed(
        train=empty,
        held_out=empty,
        clusters=[],
        identity={"training rows": content_id("rollout", texts), "held-out rows": content_id([])},
        prompts=[[], [prompt.text for prompt in prompts]],
        rewards=list(zip(spec.rewards, loaded, strict=True)),
        rounds=rounds,
    )


def _further(config: CheckpointConfig, resolution: int) -> dict[str, Tensor]:
    """What a sample is conditioned on besides its prompt: an SDXL's size and crop, those of the whole image."""
    if "time_ids" not in config.family.image_conditions:
        return {}
    return {"time_ids": torch.tensor([resolution, resolution, 0, 0, resolution, resolution])}
