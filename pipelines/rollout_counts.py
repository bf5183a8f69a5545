"""What a rollout costs, counted from the recipe: samples through the denoiser, groups, rounds, disk; and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmpo.models.checkpoint import CheckpointConfig
from mmpo.recipe import Recipe
from mmpo.sampling.stepper import trainable_steps
from mmpo.training.rounds import steps_of
from pipelines.build_rollout import stepper_of
from pipelines.prompts import load_prompts

FLOAT32 = 4


@dataclass(frozen=True)
class RolloutCounts:
    """Counts of one round without ties, and of a training forward.

    Args:
        images: that a round scores.
        drawn: samples through the denoiser to make them; guidance makes two of one.
        groups: prompts at steps to train on, at most.
        per_group: samples through the denoiser to train one, at most; the reference takes as many.
        steps: optimiser steps of the round.
        rounds: of the run, at least.
        stored: numbers of the round's states on disk.
        batch: images that are sampled at once.
    """

    images: int
    drawn: int
    groups: int
    per_group: int
    steps: int
    rounds: int
    stored: int
    batch: int


def rollout_counts(recipe: Recipe, config: CheckpointConfig, latent_elements: int) -> RolloutCounts:
    """Counts of a recipe with a rollout.

    Args:
        latent_elements: C·H·W.
    Raises:
        ValueError: the sampler has no noise, or its schedule is not supported.
    """
    spec = recipe.rollout
    assert spec is not None
    steps, k, prompts = spec.sampling.steps, spec.candidates, spec.prompts_per_round
    guided = 1 if spec.sampling.guidance <= 1 else 2
    able = trainable_steps(stepper_of(recipe, config))
    if spec.kind == "trajectories":
        drawn = 1 + (steps - 1) * k if spec.start == "shared" else steps * k
        groups = min(spec.train_steps or len(able), len(able))
        parents, images = k, k
        stored = k * (steps + 1)
    else:
        drawn = spec.first_step + 1 + (steps - 1 - spec.first_step) * k
        groups = sum(step >= spec.first_step for step in able)
        parents, images = (1 if spec.inner_steps == 1 else 2), k
        branches = -(-(steps - spec.first_step) // spec.inner_steps)
        stored = 2 * (steps - spec.first_step + branches)
    of_round = steps_of(groups * prompts, spec.passes, recipe.train.batch_size)
    return RolloutCounts(
        images=images * prompts,
        drawn=drawn * prompts * guided,
        groups=groups * prompts,
        per_group=parents * guided,
        steps=of_round,
        rounds=-(-recipe.train.steps // max(1, of_round)),
        stored=stored * prompts * latent_elements,
        batch=min(spec.sampling.batch_size, max(1, spec.sampling.batch_size // k) * k),
    )


def rollout_lines(recipe: Recipe, config: CheckpointConfig, latent_elements: int, referenced: bool) -> Iterator[str]:
    """What a dry run says of a rollout.

    Args:
        referenced: whether the policy is compared with a reference while it trains.
    """
    spec, train = recipe.rollout, recipe.train
    assert spec is not None
    counts, s = rollout_counts(recipe, config, latent_elements), spec.sampling
    whole = spec.kind == "trajectories"
    what = "whole trajectories" if whole else f"of each step from {spec.first_step} on"
    yield (
        f"own samples  {len(load_prompts(spec.prompts, spec.limit))} prompts of {spec.prompts}, "
        f"{spec.prompts_per_round} a round x {spec.candidates} candidates ({what}), {s.steps} steps, guidance "
        f"{s.guidance:g}"
    )
    if spec.stored is not None:
        yield f"rounds from  {spec.stored}: nothing is sampled"
    by = (
        "people (mmpo vote); each round stops for them"
        if spec.labels == "votes"
        else "; ".join(map(_named, spec.rewards))
    )
    yield f"decided by   {by or 'what is stored'}"
    yield (
        f"a round      {counts.images:,} images scored, {counts.drawn:,} samples through the denoiser to draw them; at "
        f"most {counts.groups:,} groups (a prompt at a step), so {counts.steps} optimiser steps"
    )
    each = train.batch_size * counts.per_group
    with_it = f", and {each:,} through the reference" if referenced else ""
    yield f"a step       {train.batch_size} groups, at most {each:,} samples through the policy{with_it}"
    kept = spec.keep_rounds * counts.stored * FLOAT32 / 1e6
    yield f"rounds       {counts.rounds:,} or more, since ties give no group; {recipe.data.path} holds {kept:,.0f} MB"


def validation_lines(recipe: Recipe) -> Iterator[str]:
    """What a dry run says of the validation while training."""
    from pipelines.validation import validation_jobs, validation_note, validation_rewards

    section = recipe.evaluation.validation
    if section is None:
        return
    names = ", ".join(f"{name}{' (trained on)' if trained else ''}" for name, _, trained in validation_rewards(recipe))
    every = section.every or recipe.evaluation.every
    yield f"validation   {len(validation_jobs(recipe))} samples every {every} steps, scored by {names or 'no reward'}"
    if note := validation_note(recipe):
        yield f"             {note}"


def _named(spec: object) -> str:
    """A reward with its options."""
    options = getattr(spec, "options", {})
    told = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"{getattr(spec, 'name', spec)}{f' ({told})' if told else ''}"
