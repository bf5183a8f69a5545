"""Validation while training: fixed prompts and noise, sampled with the policy and scored by rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

import rewards
from mmpo.data.image_statistics import clipped, diversity, saturation, sharpness, thumbnail
from mmpo.models.families import Family
from mmpo.recipe import Recipe, RewardSpec
from mmpo.records import Prompt, content_id
from mmpo.training.hacking import Look
from mmpo.training.run import LookAt
from mmpo.training.validation import untrained_note
from pipelines.generate import Job
from pipelines.policy_images import PolicyImages
from pipelines.prompts import load_prompts
from pipelines.rollout_scores import Failures, score_images

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scorer:
    """A reward under the name of its column."""

    column: str
    reward: Any
    trained: bool


@dataclass(frozen=True)
class _Part:
    """What one process made: places of its images in the whole, their scores, numbers and thumbnails; or a fault."""

    places: Sequence[int] = ()
    scores: Mapping[str, Sequence[float]] | None = None
    numbers: Sequence[tuple[float, float, float]] = ()
    thumbnails: Sequence[Any] = ()
    failures: Sequence[str] = ()
    fault: str | None = None


class Validator:
    """Draws and scores the validation samples; every process has its share of them and gets the whole.

    Args:
        images: with all the prompts.
        jobs: the samples.
        scorers: the rewards.
        batch_size: samples at once.
        identity: of what decides samples and scores besides the policy.
        accelerator: devices and processes.
    """

    def __init__(
        self,
        images: PolicyImages,
        jobs: Sequence[Job],
        scorers: Sequence[Scorer],
        batch_size: int,
        identity: str,
        accelerator: Accelerator,
    ) -> None:
        self._images, self._jobs, self._scorers = images, list(jobs), list(scorers)
        self._batch_size, self._identity, self._accelerator = batch_size, identity, accelerator

    def __call__(self, policy: nn.Module, step: int) -> Look:
        """The look at `step`, the same on every process.

        Raises:
            RuntimeError: sampling failed, here or on another process.
        """
        try:
            own = self._share(policy)
        except Exception as error:  # the other processes wait for this one's share
            own = _Part(fault=f"{type(error).__name__}: {error}")
        parts: list[_Part] = gather_object([own])
        if faults := [part.fault for part in parts if part.fault is not None]:
            raise RuntimeError(faults[0])
        prompts = [job.prompt for job in self._jobs]
        numbers = _whole(parts, [part.numbers for part in parts])
        small = _whole(parts, [part.thumbnails for part in parts])
        same, across = diversity(small, [prompt.text for prompt in prompts])
        by_name = dict(zip(("saturation", "clipped", "sharpness"), zip(*numbers, strict=True), strict=True))
        columns = {s.column: _whole(parts, [(part.scores or {})[s.column] for part in parts]) for s in self._scorers}
        return Look(
            step=step,
            identity=self._identity,
            clusters=[prompt.cluster for prompt in prompts],
            rewards=columns,
            images={**by_name, "diversity": same.tolist(), "diversity_across": across.tolist()},
            trained=[scorer.column for scorer in self._scorers if scorer.trained],
            failures=[message for part in parts for message in part.failures],
        )

    def _share(self, policy: nn.Module) -> _Part:
        accelerator = self._accelerator
        places = list(range(len(self._jobs)))[accelerator.process_index :: accelerator.num_processes]
        jobs, pictures = [self._jobs[place] for place in places], []
        with self._images.drawing(policy):
            for at in range(0, len(jobs), self._batch_size):
                pictures += self._images.draw(policy, jobs[at : at + self._batch_size])
        failures = Failures(fatal=False)
        texts = [job.prompt.text for job in jobs]
        scores = {s.column: score_images(s.reward, pictures, texts, failures).tolist() for s in self._scorers if texts}
        pixels = [np.asarray(picture.convert("RGB")) for picture in pictures]
        numbers = [(saturation(one), clipped(one), sharpness(one)) for one in pixels]
        empty: dict[str, list[float]] = {s.column: [] for s in self._scorers}
        return _Part(places, {**empty, **scores}, numbers, [thumbnail(one) for one in pixels], failures.messages)


def _whole(parts: Sequence[_Part], values: Sequence[Sequence[Any]]) -> list[Any]:
    """Values of all processes in the order of the samples."""
    found = {
        place: value
        for part, row in zip(parts, values, strict=True)
        for place, value in zip(part.places, row, strict=True)
    }
    return [found[place] for place in sorted(found)]


def trained_on(recipe: Recipe) -> list[RewardSpec]:
    """The rewards that decide what the policy learns, as far as the recipe says."""
    if recipe.rollout is not None:
        return list(recipe.rollout.rewards)
    return [recipe.data.make.reward] if recipe.data.make is not None else []


def validation_rewards(recipe: Recipe) -> Iterator[tuple[str, RewardSpec, bool]]:
    """(column, reward, whether it is trained on) of each that a validation scores: the named, then those trained on."""
    section, trained = recipe.evaluation.validation, trained_on(recipe)
    assert section is not None
    seen: list[str] = []
    for spec in [*section.rewards, *(spec for spec in trained if spec not in section.rewards)]:
        again = seen.count(spec.name)
        seen.append(spec.name)
        yield f"{spec.name}#{again + 1}" if again else spec.name, spec, spec in trained


def validation_jobs(recipe: Recipe) -> list[Job]:
    """The samples of a recipe's validation."""
    section = recipe.evaluation.validation
    assert section is not None
    prompts: list[Prompt] = load_prompts(section.prompts, section.limit)
    return [Job(prompt, number) for prompt in prompts for number in range(section.samples)]


def build_validation(
    recipe: Recipe,
    pipeline: Any,
    family: Family,
    accelerator: Accelerator,
    loaded: Sequence[tuple[RewardSpec, Any]],
    say: Say,
) -> LookAt | None:
    """What looks at the policy while it trains, or None where the recipe asks for none.

    Args:
        pipeline: whole, on the device; its text encoders are used here.
        loaded: rewards that are in memory already, with what the recipe says of them.
    """
    section, evaluation = recipe.evaluation.validation, recipe.evaluation
    if section is None:
        return None
    if recipe.train.distribution == "fsdp2" and accelerator.num_processes > 1:
        say("no validation: with fsdp2 no process holds the weights to sample with alone")
        return None
    scorers = []
    for column, spec, trained in validation_rewards(recipe):
        there = [reward for other, reward in loaded if other == spec]
        scorers.append(Scorer(column, there[0] if there else rewards.load(spec.name, **spec.options), trained))
    if note := validation_note(recipe):
        say(note)
    jobs = validation_jobs(recipe)
    texts = [job.prompt.text for job in jobs]
    images = PolicyImages(pipeline, family, texts, evaluation.sampling, evaluation.seed, accelerator.autocast)
    sampling = evaluation.sampling.model_dump(exclude={"batch_size"})
    said = [[s.column, dict(getattr(s.reward, "identity", {"name": s.reward.name}))] for s in scorers]
    identity = content_id("validation", texts, section.samples, evaluation.seed, sampling, said)
    return Validator(images, jobs, scorers, evaluation.sampling.batch_size, identity, accelerator)


def validation_note(recipe: Recipe) -> str | None:
    """What to say of the rewards of a recipe's validation, where all of them are trained on."""
    columns = list(validation_rewards(recipe))
    return untrained_note([name for name, _, trained in columns if trained], [name for name, _, _ in columns])
