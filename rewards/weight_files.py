"""A file of weights by path or hub name, and its tensors into a model without anything left over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

NAMED = 8  # so many keys in a message


def weight_file(weights: str, *, revision: str | None = None, name: str | None = None) -> Path:
    """A local file, `name` in a local folder, or a file of the hub, spelled OWNER/NAME/FILE.

    Raises:
        ValueError: nothing there.
    """
    path = Path(weights).expanduser()
    if path.is_dir() and name is not None:
        path = path / name
    if path.is_file():
        return path
    parts = weights.split("/")
    if path.is_absolute() or len(parts) < 3 or not all(parts):
        raise ValueError(f"weights {weights}: no such file; give a file, or OWNER/NAME/FILE on the hub")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:]), revision=revision))
    except Exception as error:  # the hub's errors have no common base that stays
        raise ValueError(
            f"weights {weights}: not a file here, and the hub gave none ({str(error).strip().splitlines()[0]}); "
            "give a local file"
        ) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch file of tensors alone.

    Raises:
        ValueError: another kind of file, or one that holds more than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling, zip and safetensors errors have no common base
        raise ValueError(
            f"weights {file}: not a file of tensors ({str(error).strip().splitlines()[0]}); expected .safetensors, or "
            "a .pt that torch.load reads with weights_only=True"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError(f"weights {file}: expected a state dict, names to tensors, got {type(state).__name__}")
    return dict(state)


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Puts the tensors into a model that was built on the meta device; each key is used, none is missing.

    Args:
        source: the file, for messages.
    Raises:
        ValueError: keys or shapes that do not fit, by name.
    """
    try:
        missing, unexpected = model.load_state_dict(dict(state), strict=False, assign=True)
    except RuntimeError as error:
        raise ValueError(f"weights {source}: {'; '.join(line.strip() for line in str(error).splitlines()[1:])}") from None
    faults = [f"{word} {_some(keys)}" for word, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
    if faults:
        raise ValueError(f"weights {source}: other keys than the model's; {'; '.join(faults)}")
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", name
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


def shape_of(state: Mapping[str, Tensor], key: str, source: str) -> torch.Size:
    """The shape of a tensor that must be there."""
    if key not in state:
        raise ValueError(f"weights {source}: missing {key}; is it the file of another model?")
    return state[key].shape


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow a prefix among the keys."""
    return len({key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)})


def image_size(positions: int, patch: int) -> int:
    """Pixels a side of a vision transformer with a class token and so many positions."""
    return math.isqrt(positions - 1) * patch


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(sorted(keys)[:NAMED]) + more
