"""A file of weights, local or on the hub, and the tensors in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.weight_places import hub_file, local_place
from rewards.weights_hash import file_hash


def weight_file(weights: str, revision: str | None = None, sha256: str | None = None) -> Path | None:
    """The single file that `weights` names, fetched from the hub where it is there; None where it names a folder.

    Args:
        weights: a path, or OWNER/NAME/FILE on the hub.
        revision: on the hub.
        sha256: what the file must hash to.
    Raises:
        ValueError: it cannot be had, or it is another file than the pinned one.
    """
    place = local_place(weights)
    on_hub = None if place is not None else hub_file(weights)
    if on_hub is not None:
        place = _fetched(weights, *on_hub, revision)
    if place is None or place.is_dir():
        if sha256 is not None:
            raise ValueError(f"sha256: pins a single file, and weights {weights} names a folder; leave it out")
        return None
    if sha256 is not None and (found := file_hash(place)) != sha256.strip().lower():
        raise ValueError(f"weights {weights}: sha256 is {found}, pinned is {sha256}; fetch the file again, or repin it")
    return place


def read_state_dict(file: Path) -> dict[str, Any]:
    """Tensors by name, of a safetensors file or of a `.pt` that holds tensors alone, also below the key "state_dict".

    Nothing is unpickled but tensors and plain containers.

    Raises:
        ValueError: not such a file.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the readers' own: of pickle, zip, safetensors
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"weights {file}: cannot be read as tensors ({why}); give a .safetensors file, or a .pt of tensors alone"
        ) from None
    held = held.get("state_dict", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ValueError(f"weights {file}: expected tensors by name, found {type(held).__name__}; give a state dict")
    return dict(held)


def _fetched(weights: str, repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"weights {weights}: no such file here, and {file} of {repository} cannot be had from the hub "
            f"({type(error).__name__}); give a local file, or OWNER/NAME/FILE"
        ) from None
