"""What weights are, in a word that changes when they do: for labels that must not mix those of two models."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rewards.weight_places import hub_file, local_place

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
SETTINGS = (
    "config.json",
    "tokenizer",
    "vocab.",
    "merges.txt",
    "spiece",
    "special_tokens",
    "preprocessor_",
    "processor_",
    "chat_template",
)
"""Starts of names: files of a model's folder that decide scores beside its weights."""


def weights_identity(weights: str, revision: str | None = None) -> str:
    """ "sha256:..." of a local file or folder, wherever it stands, or "OWNER/NAME@commit" of what came from the hub.

    Args:
        weights: as rewards take it: a path, `shapes/NAME`, OWNER/NAME, or OWNER/NAME/FILE.
        revision: on the hub; without a commit in the cache it stands for it.
    """
    place = local_place(weights)
    if place is not None:
        return f"sha256:{folder_hash(place) if place.is_dir() else file_hash(place)}"
    repository, file = hub_file(weights) or (weights, "config.json")
    return f"{weights}@{_commit(repository, file, revision) or revision or 'main'}"


def identity_of(
    weights: str | None, revision: str | None, dtype: str, view: object, **options: object
) -> dict[str, str]:
    """What the scores of a reward that runs a model depend on: never its device or its batches.

    Args:
        weights: as `weights_identity` takes them; None where an option says where they come from.
        dtype: of the model.
        view: its first stage.
        options: what else changes scores; None is left out.
    """
    known = {"weights": None if weights is None else weights_identity(weights, revision), "dtype": dtype, "view": view}
    return {name: str(value) for name, value in {**known, **options}.items() if value is not None}


def file_hash(file: Path) -> str:
    """SHA-256 of a file, read in pieces: 64 hex digits."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 over names and hashes of a model's weights, config, tokenizer and processor; other files do not count."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file() and (file.suffix in WEIGHTS or file.name.startswith(SETTINGS)):
            digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def _commit(repository: str, file: str, revision: str | None) -> str | None:
    """The commit that a file in the hub's cache is of."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=revision)
    parts = Path(found).parts if isinstance(found, str) else ()
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
