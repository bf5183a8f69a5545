"""Weights out: a LoRA file as diffusers loads it, or a whole pipeline folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mmpo.files import naming, replace_folder, write_bytes
from mmpo.models.quiet import quiet_diffusers

LORA_FILE = "pytorch_lora_weights.safetensors"


def save_lora(folder: Path, pipeline_class: Any, denoiser_name: str, denoiser: Any, about: Mapping[str, Any]) -> Path:
    """Writes `pytorch_lora_weights.safetensors`, readable by `pipeline.load_lora_weights(folder)`.

    Args:
        folder: where the file goes.
        pipeline_class: the diffusers pipeline class of the base.
        denoiser_name: "unet" or "transformer".
        denoiser: the unwrapped model that carries the adapter.
        about: base model, recipe hash and the like, for the file's header under the key "mmpo".
    Returns:
        The file. Its header also holds rank, alpha and targets under "lora_adapter_metadata".
    """
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    # peft's own keys (lora_A, lora_B) for every layer: diffusers' converter renames those of attention only, and of a
    # file with both kinds load_lora_weights takes one kind and leaves the rest out without an error.
    layers = {name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(denoiser).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lora-") as partial:
        with naming(Path(partial), folder):
            pipeline_class.save_lora_weights(
                partial, **{f"{denoiser_name}_lora_layers": layers}, **_collate_lora_metadata({denoiser_name: denoiser})
            )
        written = Path(partial) / LORA_FILE
        with safe_open(written, framework="pt") as source:
            header = {**(source.metadata() or {}), "mmpo": json.dumps(dict(about), sort_keys=True)}
            tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 (not a mapping)
        write_bytes(folder / LORA_FILE, save(tensors, metadata=header))
    return folder / LORA_FILE


def load_lora(pipeline: Any, denoiser: Any, folder: Path) -> None:
    """Loads what `save_lora` wrote, and checks that every tensor of the file arrived.

    Raises:
        ValueError: tensors were left out, with the first one's name.
    """
    with quiet_diffusers():  # it warns that the text encoder has no LoRA, which is as it should be
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
    with safe_open(folder / LORA_FILE, framework="pt") as file:
        tensors = {name.split(".", 1)[1]: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    adapter = next((name for name in getattr(denoiser, "peft_config", {})), "default_0")
    restore_exact(denoiser, adapter, tensors)
    arrived = {
        ".".join(part for part in name.split(".") if not part.startswith("default"))
        for name in denoiser.state_dict()
        if "lora_" in name
    }
    if tensors.keys() != arrived:
        odd = sorted(tensors.keys() ^ arrived)
        raise ValueError(f"{folder / LORA_FILE}: {len(odd)} tensors do not fit the base model, the first is {odd[0]}")


def restore_exact(denoiser: Any, adapter: str, tensors: Mapping[str, Tensor]) -> None:
    """Puts a file's own numbers into an adapter, in float32 at least: loading rounds them to the base's half precision.

    Args:
        adapter: its name in the denoiser.
        tensors: by peft's names without the adapter's.
    """
    for name, parameter in denoiser.named_parameters():
        exact = tensors.get(name.replace(f".{adapter}.", "."))
        if exact is None or f".{adapter}." not in name:
            continue
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
        parameter.data.copy_(exact)


def save_pipeline(folder: Path, pipeline: Any, about: Mapping[str, Any]) -> Path:
    """Writes a whole pipeline folder (safetensors) with `mmpo.json` beside it, and returns the folder."""
    with replace_folder(folder) as partial:
        pipeline.save_pretrained(partial, safe_serialization=True)
        (partial / "mmpo.json").write_text(json.dumps(dict(about), indent=2, sort_keys=True) + "\n")
    return folder
