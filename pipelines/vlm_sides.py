"""A finished run of a vision-language model as two models on one device: its base, then what it trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mmpo.models.loading import weights_hash
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import Vlm, load_vlm
from mmpo.recipe_files import load_as
from mmpo.training.folders import read_summary
from mmpo.vlm_recipe import VlmRecipe
from pipelines.report_run import ADAPTER, MODEL, RECIPE, VlmRun, read_vlm_run

BASE, TUNED = "base", "tuned"
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Side(NamedTuple):
    """One of the two.

    Args:
        name: "base" or "tuned".
        vlm: the model, in evaluation mode, with its processor.
        weights: hash of its state, an adapter's included.
    """

    name: str
    vlm: Vlm
    weights: str


def finished_vlm(folder: Path, overrides: Sequence[str] = ()) -> tuple[VlmRun, VlmRecipe]:
    """(a finished run, its recipe with changes to the section evaluation).

    Raises:
        ValueError: no such run, no weights yet, or a change to another section.
    """
    run = read_vlm_run(folder)
    if run is None:
        raise ValueError(f"{folder}: is a run of an image model; this is for vision-language models")
    if not read_summary(folder) or run.weights is None:
        raise ValueError(f"{folder} has no finished weights yet; finish it with `mmpo train {folder} --resume`")
    other = [text for text in overrides if not text.lstrip("-").startswith("evaluation.")]
    if other:
        raise ValueError(f"override '{other[0]}': mmpo eval changes the section evaluation only")
    return run, load_as(VlmRecipe, str(folder / RECIPE), list(overrides))


def sides(recipe: VlmRecipe, folder: Path) -> Iterator[Side]:
    """The base, then the tuned model; one at a time is in memory.

    The LoRA is put onto the base that has just answered, so both compute in one dtype.

    Args:
        folder: of the run.
    Raises:
        ValueError: the base cannot be loaded.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = _dtype(recipe, device)
    model = recipe.model
    with quiet_transformers():
        vlm = load_vlm(
            model.path,
            revision=model.revision,
            dtype=dtype,
            quantize=model.quantize,
            device=device,
            max_pixels=model.max_pixels,
        )
    yield Side(BASE, vlm, weights_hash(vlm.model))
    if model.lora is not None:
        put_adapter(vlm.model, folder / ADAPTER)
    else:
        del vlm
        with quiet_transformers():
            vlm = load_vlm(str(folder / MODEL), dtype=dtype, device=device)
    yield Side(TUNED, vlm, weights_hash(vlm.model))


def put_adapter(model: Any, adapter: Path) -> None:
    """Adds a run's LoRA to its base in place, switched on and frozen.

    Raises:
        ValueError: it does not fit.
    """
    try:
        with warnings.catch_warnings(), quiet_transformers():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
            model.load_adapter(str(adapter))
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{adapter}: does not fit {model.name_or_path}: {reason}") from None
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    model.eval().requires_grad_(False)


def _dtype(recipe: VlmRecipe, device: torch.device) -> torch.dtype:
    """What training computed in; a full fine-tune's master weights are float32, and half is for a GPU."""
    precision = recipe.train.precision
    if precision == "fp64":
        return torch.float64
    half = recipe.model.lora is not None or device.type == "cuda"
    return HALF.get(precision, torch.float32) if half else torch.float32
