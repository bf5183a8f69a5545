"""MPS's released checkpoint, a pickled module, as a safetensors file of its tensors; nothing that it names is run.

A pickle names classes and functions that a loader imports and calls. Here every name that is no tensor's stands for an
empty object, torch reads the file as strictly as it reads weights (`weights_only=True`), and what is kept are tensors
and a few numbers of the towers' configs. The authors' code and old transformers need not be installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmpo.files import write_bytes
from rewards.mps_weights import CLIP_H, mps_parts


class Empty:
    """Stands for whatever a pickle names; takes any arguments, keeps its state as attributes."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):  # a module's or a config's; others, such as a partial's, matter to nobody
            self.__dict__.update(state)


def convert(source: Path, target: Path) -> None:
    """Writes the tensors of a released checkpoint under their names, with the dtype that they have.

    Args:
        source: MPS_overall_checkpoint.pth.
        target: a .safetensors file.
    Raises:
        ValueError: not such a checkpoint, or a target of another kind.
    """
    from safetensors.torch import save

    if target.suffix != ".safetensors":
        raise ValueError(f"target {target}: expected a name that ends in .safetensors")
    module = read_module(source)
    state = {name: tensor.detach().clone().contiguous() for name, tensor in tensors_of(module)}
    towers = _towers(module)
    mps_parts(state, towers, str(source))  # or it is another model
    write_bytes(target, save(state, {"towers": json.dumps(towers)}))


def read_module(file: Path) -> Any:
    """The pickled module as empty objects with its tensors.

    Raises:
        ValueError: no such file, or one that torch does not read so.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; MPS's README says where its checkpoint is")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        with torch.serialization.safe_globals([(Empty, name) for name in names]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's and zip's errors have no common base
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith(("Trying", "Unsupported"))), lines[0] if lines else "")
        raise ValueError(f"{file}: not a torch module that can be read without running code of it ({reason})") from None


def tensors_of(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module's state, as its state_dict would say them."""
    if not isinstance(module, Empty) or not isinstance(vars(module).get("_modules"), dict):
        raise ValueError(f"expected a pickled torch module{f' at {prefix}' if prefix else ''}; is it a state dict?")
    hidden = vars(module).get("_non_persistent_buffers_set") or ()
    for name, tensor in {**vars(module)["_parameters"], **vars(module)["_buffers"]}.items():
        if isinstance(tensor, Tensor) and name not in hidden:
            yield prefix + name, tensor
    for name, child in vars(module)["_modules"].items():
        if child is not None:
            yield from tensors_of(child, f"{prefix}{name}.")


def _towers(module: Any) -> dict[str, dict[str, Any]]:
    """Of each tower's config what shapes do not tell."""
    config = getattr(vars(module)["_modules"].get("model"), "config", None)
    found = {}
    for tower, default in CLIP_H.items():
        said = getattr(config, f"{tower}_config", None)
        known = said if isinstance(said, dict) else vars(said) if said is not None else {}
        found[tower] = {name: known.get(name, value) for name, value in default.items()}
    return found
