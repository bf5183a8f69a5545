"""`mmpo estimate`: memory by part, time, disk and what to turn, from a recipe and the checkpoint's configs alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.families import images_at_once
from mmpo.models.lora_start import find_start
from mmpo.recipe import Lora, Recipe
from mmpo.recipe_files import changed
from pipelines.build import DTYPES, REFERENCES, build_adapter, check_resolution, reference_class, weights_dtype
from pipelines.devices import GIB, UTILISATION, Device, measured_cpu
from pipelines.disk import checkpoints, latent_cache, text_cache
from pipelines.memory import Part, Setup, Sizes, peak, phases, total
from pipelines.meta_counts import Shape, condition_shapes, counter_of
from pipelines.rollout_counts import FLOAT32, RolloutCounts, rollout_counts
from pipelines.switches import available, smallest_set
from pipelines.text_sizes import text_parameters

CANDIDATES = 2
GROUPS_ENCODED = 16  # groups that `mmpo.data.encoding.encode_groups` decodes before the VAE takes them
QUANTISED = {"8": 1.0, "4": 0.5625}  # bytes of a weight: 4 bits and a float32 scale for every 64 weights


@dataclass(frozen=True)
class Turn:
    """One switch: its overrides, bytes of the largest phase with it alone, and what it costs."""

    overrides: tuple[str, ...]
    bytes: int
    cost: str


@dataclass(frozen=True)
class Estimate:
    """What a run needs.

    Args:
        phases: parts by phase, bytes.
        memory: GiB to compare with, None where unknown.
        turns: switches with what each saves; empty where it fits.
        fits_with: the overrides that make it fit; None where nothing does; empty where it fits.
        operations: floating-point operations of one optimiser step of this process.
        seconds: of one step; None where the device's speed is unknown.
        speed: where the seconds come from.
        steps: of the run.
        disk: bytes by what takes them, caches for a thousand pairs and a thousand distinct prompts.
        notes: what is assumed.
    """

    recipe: Recipe
    config: CheckpointConfig
    device: Device
    resolution: int
    phases: Mapping[str, tuple[Part, ...]]
    memory: float | None
    turns: tuple[Turn, ...]
    fits_with: tuple[str, ...] | None
    operations: int
    seconds: float | None
    speed: str
    steps: int
    disk: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def peak(self) -> int:
        """Bytes of the largest phase."""
        return max(total(parts) for parts in self.phases.values())

    @property
    def fits(self) -> bool | None:
        """Whether the device holds it; None where its memory is unknown."""
        return None if self.memory is None else self.peak <= self.memory * GIB

    def as_dict(self) -> dict[str, Any]:
        """As JSON: bytes, seconds, GiB where it says so."""
        return {
            "model": self.recipe.model.path,
            "resolution": self.resolution,
            "device": asdict(self.device),
            "memory_gib": self.memory,
            "fits": self.fits,
            "peak_bytes": self.peak,
            "phases": {name: [asdict(part) for part in parts] for name, parts in self.phases.items()},
            "switches": [asdict(turn) for turn in self.turns],
            "fits_with": self.fits_with,
            "operations_per_step": self.operations,
            "seconds_per_step": self.seconds,
            "hours": None if self.seconds is None else self.seconds * self.steps / 3600,
            "speed": self.speed,
            "steps": self.steps,
            "disk_bytes": dict(self.disk),
            "notes": list(self.notes),
        }


def estimate(recipe: Recipe, device: Device, memory: float | None = None, run: Path | None = None) -> Estimate:
    """Counts what a recipe needs.

    Args:
        device: its peak makes the seconds.
        memory: GiB to fit in; None takes the device's.
        run: a run's folder, whose own pace is used where it has one.
    Raises:
        ValueError: as a dry run.
    """
    config = read_config(recipe.model.path, recipe.model.revision, recipe.model.config)
    build_adapter(recipe, config)
    resolution = check_resolution(recipe, config)
    counting = Counting(config, cuda=device.name != "cpu")
    memory = device.memory if memory is None else memory
    asked = counting.phases(recipe)
    largest = max(total(parts) for parts in asked.values())
    turns: tuple[Turn, ...] = ()
    fits_with: tuple[str, ...] | None = ()
    if memory is not None and largest > memory * GIB:
        stated = changed(recipe, [f"data.resolution={resolution}"])
        turns = counting.turns(stated)
        found = smallest_set(stated, counting.peak, memory * GIB)
        fits_with = None if found is None else tuple(found[0])
    operations = counting.operations(recipe)
    seconds, speed = pace(recipe, device, operations, run)
    return Estimate(
        recipe=recipe,
        config=config,
        device=device,
        resolution=resolution,
        phases=asked,
        memory=memory,
        turns=turns,
        fits_with=fits_with,
        operations=operations,
        seconds=seconds,
        speed=speed,
        steps=recipe.train.steps,
        disk=counting.disk(recipe),
        notes=tuple(counting.notes(recipe)),
    )


class Counting:
    """Counts of one checkpoint under recipes that differ in their switches.

    Args:
        config: of the checkpoint.
        cuda: casts as CUDA makes them.
    """

    def __init__(self, config: CheckpointConfig, *, cuda: bool) -> None:
        self._config, self._cuda = config, cuda
        self._counter = counter_of(config)
        self._texts, self._texts_counted = text_parameters(config)

    def shape(self, recipe: Recipe) -> Shape:
        """What the counts depend on."""
        lora, precision = recipe.model.lora, recipe.train.precision
        if lora is not None and lora.start is not None:
            lora = Lora(rank=find_start(lora.start).rank)
        return Shape(
            lora=None if lora is None else lora.model_dump_json(),
            weights=weights_dtype(recipe),
            autocast=DTYPES[precision] if precision in ("bf16", "fp16") else None,
            resolution=recipe.data.resolution or self._config.resolution,
            checkpointing=recipe.train.gradient_checkpointing,
            cuda=self._cuda,
        )

    def sizes(self, recipe: Recipe) -> Sizes:
        """Counts under this recipe."""
        shape = self.shape(recipe)
        trained, frozen = self._counter.parameters(shape)
        lora = recipe.model.lora
        if lora is not None and lora.start is not None:
            trained = find_start(lora.start).numbers
        vae, encode, _ = self._counter.vae(shape.resolution)
        drawn = sampled_at(recipe, self._config)
        return Sizes(
            frozen=frozen,
            trained=trained,
            reference={"frozen_adapter": trained, "frozen_copy": trained + frozen}.get(reference_name(recipe), 0),
            vae=vae,
            texts=self._texts,
            step=self._counter.step(shape),
            sample=self._counter.sample(replace(shape, resolution=drawn, checkpointing=False)),
            encode=encode,
            decode=self._counter.vae(drawn)[2],
        )

    def setup(self, recipe: Recipe) -> Setup:
        """What the recipe makes of them."""
        train, evaluation, make = recipe.train, recipe.evaluation, recipe.data.make
        master = 8 if train.precision == "fp64" else 4
        loaded = weights_dtype(recipe).itemsize
        sampled = [evaluation.sampling.batch_size] if evaluation.prompts and evaluation.rewards else []
        sampled += [make.sampling.batch_size] if make is not None else []
        resolution = recipe.data.resolution or self._config.resolution
        one_by_one = getattr(train, "one_candidate_at_a_time", False)
        quantised = str(getattr(recipe.model, "quantize", None) or "")
        counts = self.rollout(recipe)
        shown = evaluation.sampling.batch_size if evaluation.validation is not None else 0
        own = counts.batch if counts is not None else 0
        return Setup(
            images=(train.micro_batch_size or train.batch_size) * (1 if one_by_one else self.per_group(recipe)),
            drawn=max(own, shown),
            decoded=max(shown, min(own, images_at_once(resolution, resolution))),
            weight_bytes=next((size for bits, size in QUANTISED.items() if bits in quantised), loaded),
            master_bytes=master,
            state_bytes=2 if getattr(recipe.optim, "eight_bit", False) else 2 * master,
            ema=train.ema is not None,
            reference_bytes=loaded if reference_name(recipe) == "frozen_copy" else master,
            offloaded=bool(getattr(recipe.method, "offload_reference", False)),
            encoded=0 if counts else min(GROUPS_ENCODED * CANDIDATES, images_at_once(resolution, resolution)),
            previews=evaluation.previews.count > 0,
            sampled=max(sampled, default=0),
            text_bytes=loaded,
        )

    def phases(self, recipe: Recipe) -> Mapping[str, tuple[Part, ...]]:
        """Parts by phase."""
        return phases(self.sizes(recipe), self.setup(recipe))

    def peak(self, recipe: Recipe) -> int:
        """Bytes of the largest phase."""
        return peak(self.sizes(recipe), self.setup(recipe))

    def turns(self, recipe: Recipe) -> tuple[Turn, ...]:
        """Each switch alone, that with the largest saving first."""
        found = []
        for switch, overrides in available(recipe):
            try:
                found.append(Turn(tuple(overrides), self.peak(changed(recipe, overrides)), switch.cost))
            except ValueError:
                continue  # what this checkpoint or recipe cannot do
        return tuple(sorted(found, key=lambda turn: turn.bytes))

    def operations(self, recipe: Recipe) -> int:
        """Of one optimiser step: the policy forward and back, the reference, blocks that are computed again."""
        shape = self.shape(recipe)
        forward, backward = self._counter.flops(replace(shape, checkpointing=False))
        live = reference_class(recipe) is not None and not getattr(recipe.method, "cache_reference", False)
        again = shape.checkpointing + bool(getattr(recipe.train, "one_candidate_at_a_time", False))
        trained = recipe.train.batch_size * self.per_group(recipe) * (forward * (1 + live + again) + backward)
        counts = self.rollout(recipe)
        return trained + (counts.drawn * forward // max(1, counts.steps) if counts is not None else 0)

    def rollout(self, recipe: Recipe) -> RolloutCounts | None:
        """Counts of own samples, where the recipe trains on them."""
        if recipe.rollout is None:
            return None
        resolution = recipe.data.resolution or self._config.resolution
        return rollout_counts(recipe, self._config, self._config.latent_elements(resolution))

    def per_group(self, recipe: Recipe) -> int:
        """Samples through the denoiser to train one group."""
        counts = self.rollout(recipe)
        return CANDIDATES if counts is None else counts.per_group

    def disk(self, recipe: Recipe) -> Mapping[str, int]:
        """Bytes by what takes them."""
        trained, _ = self._counter.parameters(self.shape(recipe))
        setup = self.setup(recipe)
        cells = (recipe.data.resolution or self._config.resolution) // self._config.downscale
        latent = (int(self._config.denoiser["in_channels"]), cells, cells)
        conditions = condition_shapes(self._config)
        counts = self.rollout(recipe)
        kept = recipe.rollout.keep_rounds if recipe.rollout is not None else 0
        return {
            **(
                {"rounds of own samples": kept * counts.stored * FLOAT32}
                if counts is not None
                else {"latents of 1000 pairs": 1000 * latent_cache(latent)}
            ),
            "texts of 1000 distinct prompts": 1000 * text_cache(conditions, weights_dtype(recipe).itemsize),
            "checkpoints": checkpoints(
                trained,
                master_bytes=setup.master_bytes,
                state_bytes=setup.state_bytes,
                ema=setup.ema,
                keep=recipe.train.keep_checkpoints,
            ),
            "result": self._pipeline_bytes(recipe) if recipe.model.lora is None else trained * setup.master_bytes,
        }

    def _pipeline_bytes(self, recipe: Recipe) -> int:
        sizes, setup = self.sizes(recipe), self.setup(recipe)
        return (sizes.trained + sizes.vae) * setup.master_bytes + round(sizes.texts * setup.text_bytes)

    def notes(self, recipe: Recipe) -> list[str]:
        """What is assumed rather than counted."""
        notes = ["kernels' workspaces, the CUDA context and the allocator's slack are 1 GB by assumption"]
        if not self._texts_counted:
            notes.append("the configs here lack the text encoders: their parameters are those of the published ones")
        if recipe.rollout is not None:
            notes.append(
                "operations hold a round's sampling, shared by its steps; hours take rounds without ties, and neither "
                "rewards nor the VAE are in them"
            )
        elif any(part.entry.family == "list" for part in recipe.method.parts):
            notes.append("the loss takes lists; everything is counted for two candidates a group")
        if recipe.evaluation.rewards or recipe.data.make is not None or recipe.rollout is not None:
            notes.append("rewards' own models are not counted")
        return notes


def reference_name(recipe: Recipe) -> str:
    """What the recipe's reference is, in its words; empty where it has none."""
    kind = reference_class(recipe)
    return next((name for name, made in REFERENCES.items() if made is kind), "")


def sampled_at(recipe: Recipe, config: CheckpointConfig) -> int:
    """The longer side of what is sampled, in pixels."""
    sampling = recipe.evaluation.sampling
    if sampling.height is not None and sampling.width is not None:
        return max(sampling.height, sampling.width)
    own = config.resolution if isinstance(config.denoiser.get("sample_size"), int) else recipe.data.resolution or 0
    return max(own, sampling.height or 0, sampling.width or 0)


def pace(recipe: Recipe, device: Device, operations: int, run: Path | None) -> tuple[float | None, str]:
    """(seconds of an optimiser step, where they come from); None where the device's speed is unknown."""
    if run is not None:
        pairs = _pairs_per_second(run / "metrics.jsonl")
        if pairs:
            middle = statistics.median(pairs)
            return recipe.train.batch_size / middle, f"measured: {middle:.3g} pairs a second in {run}"
    precision = recipe.train.precision
    if device.name == "cpu":
        reached = measured_cpu(precision)
        return operations / reached / 1e12, f"{reached:.3g} TFLOPS, measured here on a product of matrices"
    top = device.peak(precision)
    if top is None:
        return None, f"no figure for {precision} on {device.name}; --device names one that is known"
    words = f"{UTILISATION:.0%} of {device.name}'s published {top:g} TFLOPS in {precision}, an assumption"
    return operations / (top * 1e12 * UTILISATION), words


def _pairs_per_second(file: Path) -> list[float]:
    """Of each logged step but the first, which also warms up; empty where the run has none."""
    if not file.is_file():
        return []
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row["pairs_per_second"] for row in rows if "pairs_per_second" in row][1:]


__all__ = ["Counting", "Estimate", "Turn", "estimate", "pace"]
