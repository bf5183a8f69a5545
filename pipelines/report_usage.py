"""Code that loads a run's weights: which pipeline class, which base, where from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmpo.recipe import Model
from pipelines.report_places import BUILT_IN, base_is_local
from pipelines.report_run import LORA, PIPELINE, RunData, RunFiles

INDEX = "model_index.json"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def hub_name(run: RunData[Any]) -> str | None:
    """The base's name on the hub, or None where it is, or may be, a local path or built in.

    train.json says where the base came from; in a run without that, a path that is not here now is taken for a name.
    """
    path = run.recipe.model.path
    if not HUB_NAME.fullmatch(path) or path.startswith(BUILT_IN) or base_is_local(run):
        return None
    return path


def single(model: Model) -> bool:
    """Whether the base is one file."""
    return Path(model.path).suffix == ".safetensors"


def pipeline_class(run: RunFiles) -> str:
    """The diffusers class of the base; without any config at hand, one that finds it itself."""
    return _index_of(run).get("_class_name") or (
        "StableDiffusionPipeline" if single(run.recipe.model) else "DiffusionPipeline"
    )


def usage(run: RunFiles, prompt: str, *, base: str | None, weights: str) -> str:
    """Python that draws one image with a run's weights.

    Args:
        prompt: of the image.
        base: what to load as the base, in place of the recipe's path; for a card that must not show local paths.
        weights: where the LoRA or the pipeline is: a folder, or a name on the hub.
    """
    model = run.recipe.model
    kind, without = pipeline_class(run), _left_out(run)
    lines = ["import torch", f"from diffusers import {kind}"]
    draw = [
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        f"{_call(run, prompt)}",
        'image.save("image.png")',
    ]
    if model.lora is None:
        load = [f"pipe = {kind}.from_pretrained({_quoted(weights)}{without})"]
    else:
        load = [
            *_base_lines(model, kind, base, without),
            f"pipe.load_lora_weights({_quoted(weights)}, weight_name={_quoted(LORA)})",
        ]
        if model.path.startswith(BUILT_IN):
            lines.append("from mmpo.shapes.checkpoints import checkpoint_path")
    return "\n".join([*lines, "", *load, *draw]) + "\n"


def _base_lines(model: Model, kind: str, base: str | None, without: str) -> list[str]:
    if model.path.startswith(BUILT_IN) and not Path(model.path).exists():
        return [f"pipe = {kind}.from_pretrained(checkpoint_path({_quoted(model.path.removeprefix(BUILT_IN))}))"]
    options = without + "".join(
        f", {name}={_quoted(value)}"
        for name, value in (("revision", model.revision), ("variant", model.variant))
        if value
    )
    if single(model):
        config = f", config={_quoted(model.config)}" if model.config and base is None else ""
        return [f"pipe = {kind}.from_single_file({_quoted(base or model.path)}{config})"]
    return [f"pipe = {kind}.from_pretrained({_quoted(base or model.path)}{options})"]


def _call(run: RunFiles, prompt: str) -> str:
    sampling = run.recipe.evaluation.sampling
    size = "".join(
        f", {name}={value}" for name, value in (("height", sampling.height), ("width", sampling.width)) if value
    )
    return (
        f"image = pipe.to(device)({_quoted(prompt)}, num_inference_steps={sampling.steps}, "
        f"guidance_scale={sampling.guidance:g}{size}).images[0]"
    )


def _quoted(value: str) -> str:
    """A Python string literal on one line."""
    return json.dumps(value, ensure_ascii=False)


def _index_of(run: RunFiles) -> dict[str, Any]:
    for file in _index_files(run):
        try:
            index: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        name = index.get("_class_name") if isinstance(index, dict) else None
        if isinstance(name, str) and name.isidentifier():
            return index
    return {}


def _left_out(run: RunFiles) -> str:
    """Arguments that `from_pretrained` wants for components that the base was saved without."""
    index = _index_of(run)
    if index.get("_class_name") != "StableDiffusion3Pipeline":
        return ""
    return "".join(f", {name}=None" for name in ("text_encoder_3", "tokenizer_3") if not any(index.get(name) or ()))


def _index_files(run: RunFiles) -> Iterator[Path]:
    """Where a model_index.json of the base may be on this machine; the network is not asked."""
    from mmpo.models.checkpoint import CONFIGS, resolve
    from mmpo.models.single_file import config_name

    model = run.recipe.model
    names = [model.path, *([model.config] if model.config else [])]
    if single(model):
        with suppress(ValueError):  # the file is gone, or of a kind without configs of its own
            names.append(config_name(Path(model.path), model.config))
    yield run.folder / PIPELINE / INDEX
    for name in names:
        with suppress(ValueError):  # no built-in checkpoint of that name
            yield Path(resolve(name)) / INDEX
        yield CONFIGS / name.replace("/", "--") / INDEX
        if HUB_NAME.fullmatch(name):
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(name, INDEX, revision=model.revision)
            if isinstance(cached, str):
                yield Path(cached)
