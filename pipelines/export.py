"""`mmpo export`: a finished run's weights as other tools load them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmpo import __version__
from mmpo.files import write_bytes
from mmpo.suggest import nearest
from pipelines.export_folder import ABOUT, copy_folder, is_free, write_folder
from pipelines.report_places import known_paths
from pipelines.report_private import public_safetensors
from pipelines.report_run import LORA, RunFiles, read_run, read_vlm_run
from pipelines.vlm_export import export_vlm

KINDS = ("diffusers", "comfyui", "kohya", "merged")
FOLDER = "export"
SUFFIX = ".safetensors"


def export_run(folder: Path, kind: str, output: Path | None = None) -> Path:
    """Writes the weights of a run in another tool's form, and returns the file or the folder.

    Args:
        folder: of a finished run.
        kind: one of `KINDS`, or of a vision-language model's run of `VLM_KINDS`. After a full fine-tune diffusers and
            merged are both the whole pipeline.
        output: a folder, or a file *.safetensors for a LoRA; default: RUN/export/KIND.
    Raises:
        ValueError: no such kind, no finished run, a form that these weights do not have, or a place that is taken.
    """
    answers = read_vlm_run(folder)
    if answers is not None:
        return export_vlm(answers, kind, output)
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        hint = f"; did you mean '{near}'?" if near else ""
        raise ValueError(f"export --to: '{kind}' is none of {', '.join(KINDS)}{hint}")
    run = read_run(folder)
    weights = run.weights
    if run.summary is None or weights is None:
        raise ValueError(f"export: {folder} has no finished weights yet; run `mmpo train {folder} --resume`")
    full = run.recipe.model.lora is None
    if full and kind in ("comfyui", "kohya"):
        raise ValueError(
            f"export --to {kind}: this run trained every weight, so it has no LoRA to convert; take --to diffusers, a "
            "whole pipeline folder"
        )
    place = _place(run, kind, output, pipeline=full or kind == "merged")
    known = known_paths(run)
    if full:
        return write_folder(place, known, lambda partial: copy_folder(weights, partial))
    if kind == "merged":
        return write_folder(place, known, lambda partial: _merge(run, partial))
    write_bytes(place, public_safetensors(_lora_bytes(run, weights, kind, place.stem), known))
    return place


def _place(run: RunFiles, kind: str, output: Path | None, *, pipeline: bool) -> Path:
    """Where the export goes. What a user has there is never overwritten; an earlier export is."""
    place = output if output is not None else run.folder / FOLDER / kind
    if not pipeline and place.suffix != SUFFIX:
        place = place / (LORA if kind == "diffusers" else f"{run.folder.resolve().name}{SUFFIX}")
    if pipeline and place.suffix == SUFFIX:
        raise ValueError(
            f"export --output {place}: --to {kind} is a folder here; name one. A single-file checkpoint is not made: "
            "the diffusers package has no converter to it (its repository has scripts that take this folder)"
        )
    resolved = place.resolve()
    if run.weights is not None and (resolved == run.weights.resolve() or run.weights.resolve() in resolved.parents):
        raise ValueError(f"export --output {place}: these are the run's own weights; name another place")
    if pipeline and not is_free(place):
        raise ValueError(f"export --output {place}: something else is there already; name a new or an empty folder")
    if not pipeline and place.is_dir():
        raise ValueError(f"export --output {place}: it is a folder, and a file of that name was to be written")
    return place


def _lora_bytes(run: RunFiles, weights: Path, kind: str, title: str) -> bytes:
    """A safetensors file of the LoRA. Its header's entry "mmpo" says what the run was and what wrote the file."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    from mmpo.models.checkpoint import read_config
    from mmpo.models.lora_formats import comfyui_tensors, kohya_header, kohya_tensors, modelspec
    from mmpo.models.lora_layers import read_layers

    with safe_open(weights, framework="pt") as opened:
        header: dict[str, str] = dict(opened.metadata() or {})
    header["mmpo"] = json.dumps({**json.loads(header.get("mmpo", "{}")), "mmpo": __version__}, sort_keys=True)
    if kind == "diffusers":
        return save(load_file(weights), metadata=header)
    model = run.recipe.model
    config = read_config(model.path, model.revision, model.config)
    layers = read_layers(weights, config.family.denoiser)
    tensors = comfyui_tensors(layers, config) if kind == "comfyui" else kohya_tensors(layers, config)
    header = {"format": "pt", "mmpo": header["mmpo"], **modelspec(config, title)}
    return save(tensors, metadata=header | (kohya_header(layers, config) if kind == "kohya" else {}))


def _merge(run: RunFiles, partial: Path) -> None:
    """The base in float32 with the LoRA added to its weights, as a pipeline folder."""
    import torch

    from mmpo.models.checkpoint import read_config
    from mmpo.models.loading import load_pipeline
    from mmpo.models.saving import load_lora

    model = run.recipe.model
    config = read_config(model.path, model.revision, model.config)
    pipeline = load_pipeline(config, dtype=torch.float32, revision=model.revision, variant=model.variant)
    load_lora(pipeline, getattr(pipeline, config.family.denoiser), run.folder)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(partial, safe_serialization=True)
    (partial / ABOUT).write_text(json.dumps(_about(run)))


def _about(run: RunFiles) -> dict[str, Any]:
    """What the header of the run's LoRA says."""
    from safetensors import safe_open

    assert run.weights is not None
    with safe_open(run.weights, framework="pt") as opened:
        return json.loads((opened.metadata() or {}).get("mmpo", "{}"))
