"""Where the reference's log-probabilities of answers are kept, by all that they depend on besides a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from mmpo.data.answer_tokens import AnswerEncoder
from mmpo.data.cache import TensorCache
from mmpo.vlm_recipe import VlmRecipe
from pipelines.checks import cache_folder

KIND = "vlm-reference"


def reference_store(
    recipe: VlmRecipe,
    model: Any,
    weights: str,
    kernel: Mapping[str, Any],
    encoder: AnswerEncoder,
    accelerator: Accelerator,
    say: Callable[[str], None],
) -> TensorCache:
    """The cache of this model, dtype, kernel and processor; another one beside it is named and not used.

    Args:
        model: with the attention that the tricks gave it.
        weights: hash of the reference's.
        kernel: how the adapter computes: the tricks that the model was found to take.
        encoder: makes tokens and pixels; its identity holds the template and the version of transformers.
    """
    made_by = {
        "weights": weights,
        "quantize": recipe.model.quantize,
        "precision": recipe.train.precision,
        "dtype": str(model.dtype),
        "attention": attention_of(model),
        "kernel": dict(kernel),
        "encoder": encoder.identity,
        "forward": recipe.train.micro_batch_size or recipe.train.batch_size,  # kernels round by the shape of a batch
        "device": torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    folder = cache_folder(recipe.data)
    others = sorted(folder.glob(f"{KIND}-*/about.json"))
    store = TensorCache(folder, KIND, made_by)
    for damaged in store.dropped:
        say(f"reference cache: a damaged shard is left out and computed again: {damaged}")
    if not len(store):
        _name_stale([file for file in others if file.parent != store.folder], made_by, say)
    return store


def attention_of(model: Any) -> dict[str, str]:
    """By part of a transformers model the attention that it computes with."""
    parts = {"": model.config} | {name: getattr(model.config, name, None) for name in ("text_config", "vision_config")}
    found = {name: getattr(part, "_attn_implementation", None) for name, part in parts.items() if part is not None}
    return {name: str(kind) for name, kind in found.items()}


def _name_stale(others: list[Path], made_by: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Says of the cache that is nearest to this run's why it is not used."""
    nearest: tuple[list[str], Path] | None = None
    for file in others:
        try:
            told = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        unlike = [name for name, value in made_by.items() if told.get(name) != value]
        if nearest is None or len(unlike) < len(nearest[0]):
            nearest = (unlike, file.parent)
    if nearest is not None:
        say(
            f"reference cache: {nearest[1]} is of another {', '.join(nearest[0])} and is not used; "
            "all is computed again, and it may be deleted"
        )
