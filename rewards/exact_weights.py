"""Tensors of a file into a model that was built for them, with no key left over or missing; sizes from shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rewards.weight_files import weight_file
from rewards.weight_places import local_place

NAMED = 8  # so many keys in a message


def one_file(weights: str, revision: str | None, sha256: str | None, name: str) -> Path:
    """The file that `weights` names, or the one of this name in the folder that it names.

    Raises:
        ValueError: none there, or another one than the pinned.
    """
    file = weight_file(known_as(weights, revision, name)[0], revision, sha256)
    if file is None:
        raise ValueError(f"weights {weights}: no such file; give {name}, its folder, or OWNER/NAME/FILE on the hub")
    return file


def known_as(weights: str, revision: str | None, name: str) -> tuple[str, str | None]:
    """What `one_file` takes, as `weights_identity` takes it: of a folder the one file counts."""
    place = local_place(weights)
    return (str(place / name) if place is not None and place.is_dir() else weights), revision


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Puts the tensors into a model that was built on the meta device; each key is used, none is missing.

    Args:
        source: the file, for messages.
    Raises:
        ValueError: keys or shapes that do not fit, by name.
    """
    wanted = model.state_dict()
    odd = [
        f"{key} is {list(tensor.shape)} and should be {list(wanted[key].shape)}"
        for key, tensor in state.items()
        if key in wanted and tensor.shape != wanted[key].shape
    ]
    check_keys(wanted.keys() - state.keys(), state.keys() - wanted.keys(), source, odd)
    model.load_state_dict(dict(state), strict=False, assign=True)  # checked above
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:  # numbers of positions, in no file
                assert name == "position_ids", name
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


def check_keys(missing: Iterable[str], unexpected: Iterable[str], source: str, shapes: Sequence[str] = ()) -> None:
    """Refuses weights that lack keys of the model or have others; numbers of positions, in old files, do not count.

    Args:
        missing, unexpected: keys.
        source: the file or folder, for messages.
        shapes: sentences about tensors of another shape.
    Raises:
        ValueError: names them.
    """
    kinds = {"missing ": missing, "unexpected ": unexpected, "": shapes}
    named = {word: [key for key in keys if not key.endswith("position_ids")] for word, keys in kinds.items()}
    words = [word + _some(keys) for word, keys in named.items() if keys]
    if words:
        raise ValueError(f"weights {source}: not those of this model: {'; '.join(words)}")


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
