"""The fresh process of `mmpo export --verify`: loads an export by the ordinary loader and compares it with the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.files import write_bytes
from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.families import decode_pixels
from mmpo.models.loading import component_hashes, load_pipeline
from mmpo.models.quiet import quiet_diffusers
from mmpo.models.saving import load_lora
from mmpo.records import Prompt
from pipelines.export_lora import LoadedLora, apply_lora, export_deltas, load_export
from pipelines.export_verify import Check, dumped
from pipelines.generate import Job, sample_latents
from pipelines.report_run import RunFiles, read_run, read_vlm_run
from pipelines.vlm_export_check import check_vlm_export

WEIGHTS = 1e-5
"""Largest ‖Δ of the export − Δ of the run‖ / ‖Δ of the run‖ of a module; float32 rounds at 6e-8."""
ROUNDING = 2.0**-23
"""What storing a sum W + Δ in float32 may move a weight by, relative to it."""
IMAGES = 1e-3
"""Largest difference of a pixel between the export's and the run's samples; pixels are in [−1, 1]."""
STEPS, PROMPTS = 10, 2


@torch.no_grad()
def check_export(folder: Path, kind: str, place: Path) -> list[Check]:
    """Compares an export with its run.

    Raises:
        ValueError: the run, or the base that it was trained from, cannot be loaded.
    """
    run = read_run(folder)
    if run.recipe.model.lora is None:
        return _check_fine_tune(run, place)
    pipeline, config = _base(run)
    denoiser = getattr(pipeline, config.family.denoiser)
    base = images(pipeline, run)
    load_lora(pipeline, denoiser, run.folder)
    tuned = images(pipeline, run)
    if kind == "merged":
        return _check_merged(run, pipeline, config.family.denoiser, place, base, tuned)
    try:
        loaded = load_export(pipeline, denoiser, config, kind, place)
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError, OSError) as error:
        return [Check("it loads", False, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", "")]
    checks = [Check("it loads", True, f"by {loaded.reader}", ""), *_lora_checks(denoiser, loaded)]
    apply_lora(denoiser, loaded)
    return [*checks, *_image_checks(images(pipeline, run), base, tuned)]


def images(pipeline: Any, run: RunFiles) -> Tensor:
    """Samples [N, 3, H, W] of the run's first prompts, with its own sampling settings and a few steps."""
    section = run.recipe.evaluation
    jobs = [Job(Prompt(text), 0) for text in [*dict.fromkeys(run.prompts())][:PROMPTS] or ["a red circle"]]
    sampling = section.sampling.model_copy(update={"steps": min(STEPS, section.sampling.steps)})
    latents = sample_latents(pipeline, jobs, sampling, section.seed)
    return decode_pixels(pipeline.vae, latents).float().cpu()


def _base(run: RunFiles) -> tuple[Any, CheckpointConfig]:
    model = run.recipe.model
    config = read_config(model.path, model.revision, model.config)
    pipeline = load_pipeline(config, dtype=torch.float32, revision=model.revision, variant=model.variant)
    return pipeline.to(_device()), config


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _lora_checks(denoiser: nn.Module, loaded: LoadedLora) -> Iterator[Check]:
    yield Check(
        "every tensor is there and arrives", loaded.arrived == loaded.held, f"{loaded.arrived} of {loaded.held}", ""
    )
    errors = {name: _relative(run, export) for name, run, export in export_deltas(denoiser, loaded)}
    covered = sum(error is not None for error in errors.values())
    strange = len(loaded.modules - errors.keys())
    more = f", and {strange} that have none" if strange else ""
    yield Check(
        "every layer of the run's LoRA is covered",
        covered == len(errors) and not strange,
        f"{covered} of {len(errors)}{more}",
        "",
    )
    found = {name: error for name, error in errors.items() if error is not None}
    yield _worst("weights change as in the run", found, f"at most {WEIGHTS:.0e}")


def _relative(run: Tensor, export: Tensor | None, room: float = 0.0) -> float | None:
    """‖export − run‖ / ‖run‖ of one module's change of weights, less the room for rounding; None without an export."""
    if export is None:
        return None
    if export.shape != run.shape:
        return float("inf")
    off = max(0.0, float((export.double() - run.double()).norm()) - room)
    return off / float(run.double().norm()) if off else 0.0


def _worst(name: str, errors: Mapping[str, float], required: str) -> Check:
    worst = max(errors, key=lambda module: errors[module], default="")
    error = errors.get(worst, float("inf"))
    where = f" ({worst})" if error > WEIGHTS else ""
    return Check(name, error <= WEIGHTS, f"relative error {error:.1e}{where}", required)


def _image_checks(export: Tensor, base: Tensor, tuned: Tensor) -> Iterator[Check]:
    same, apart = (float((export - other).abs().max()) for other in (tuned, base))
    least = 10 * same
    yield Check("images differ from the base's", apart > least, f"by {apart:.1e}", f"more than {least:.1e}")
    yield Check("images equal the run's", same <= IMAGES, f"within {same:.1e}", f"at most {IMAGES:.0e}")


def _check_merged(run: RunFiles, pipeline: Any, name: str, place: Path, base: Tensor, tuned: Tensor) -> list[Check]:
    """The merged weights minus the base's, against the LoRA's own change; whatever has no LoRA must be the base's."""
    opened = _open(place)
    if isinstance(opened, Check):
        return [opened]
    denoiser, merged = getattr(pipeline, name), getattr(opened, name).state_dict()
    before = {
        key.replace(".base_layer.", "."): tensor for key, tensor in denoiser.state_dict().items() if "lora_" not in key
    }
    errors: dict[str, float] = {}
    for module, layer in denoiser.named_modules():
        if getattr(layer, "scaling", None):
            key = f"{module}.weight"
            room = ROUNDING * float(before[key].double().norm())
            change = merged.pop(key, before[key]).double() - before.pop(key).double()
            errors[module] = _relative(layer.get_delta_weight(next(iter(layer.scaling))), change, room) or 0.0
    equal = _equal(merged, before)
    hashes = [{k: v for k, v in component_hashes(p).items() if k != name} for p in (opened, pipeline)]
    return [
        Check("it loads", True, "by DiffusionPipeline.from_pretrained", ""),
        Check("all other weights are the base's", not equal and hashes[0] == hashes[1], equal or "they are", ""),
        _worst("weights change as in the run", errors, f"at most {WEIGHTS:.0e} beyond float32's rounding"),
        *_image_checks(images(opened, run), base, tuned),
    ]


def _check_fine_tune(run: RunFiles, place: Path) -> list[Check]:
    assert run.weights is not None
    opened, own = _open(place), _open(run.weights)
    if isinstance(opened, Check):
        return [opened]
    if isinstance(own, Check):
        raise ValueError(f"{run.weights}: the run's own pipeline cannot be loaded: {own.found}")
    pipeline, config = _base(run)
    base = images(pipeline, run)
    del pipeline
    states = [getattr(whole, config.family.denoiser).state_dict() for whole in (opened, own)]
    odd = _equal(*states)
    return [
        Check("it loads", True, "by DiffusionPipeline.from_pretrained", ""),
        Check("all weights are the run's", not odd, odd or f"{len(states[0])} of {len(states[1])}", "bit for bit"),
        *_image_checks(images(opened, run), base, images(own, run)),
    ]


def _open(place: Path) -> Any:
    """The pipeline of a folder, or the check that failed."""
    from diffusers import DiffusionPipeline

    try:
        with quiet_diffusers():
            pipeline = DiffusionPipeline.from_pretrained(place, dtype=torch.float32, use_safetensors=True)
    except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        return Check("it loads", False, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", "")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(_device())


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Which tensor is not the same in both; nothing where all are."""
    odd = sorted(one.keys() ^ other.keys()) or [k for k in one if not torch.equal(one[k], other[k])]
    return f"{len(odd)} are not, the first is {odd[0]}" if odd else ""


def main(folder: str, kind: str, place: str, answer: str) -> None:
    """Writes the checks, or the sentence of an error that a user can mend, to the file `answer`."""
    import json

    try:
        answers = read_vlm_run(Path(folder))
        if answers is not None:
            said = dumped(check_vlm_export(answers, kind, Path(place)))
        else:
            said = dumped(check_export(Path(folder), kind, Path(place)))
    except ValueError as error:
        said = json.dumps(str(error))
    write_bytes(Path(answer), said.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
