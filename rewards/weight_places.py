"""What a name of weights stands for: something on this machine, a repository on the hub, or one file of it."""

from __future__ import annotations

from pathlib import Path

BUILT_IN = "shapes/"


def local_place(weights: str) -> Path | None:
    """The folder or file on this machine that `weights` names, `shapes/NAME` being one that ships; None for the hub."""
    place = Path(weights).expanduser()
    if place.exists():
        return place
    if weights.startswith(BUILT_IN):
        from mmpo.shapes.checkpoints import checkpoint_path

        return checkpoint_path(weights.removeprefix(BUILT_IN))
    return None


def check_place(weights: str) -> None:
    """Refuses what can only be a path on this machine and leads nowhere; the hub's own errors would not say so.

    Raises:
        ValueError: an absolute path, one from "." or "~", or a lone file's name, and nothing is there.
    """
    lone = "/" not in weights and weights.endswith((".safetensors", ".bin", ".pt", ".pth"))
    if (lone or weights.startswith(("/", ".", "~"))) and not Path(weights).expanduser().exists():
        raise ValueError(f"weights {weights}: no such file or folder on this machine; correct it, or give a hub name")


def hub_file(weights: str) -> tuple[str, str] | None:
    """(OWNER/NAME, FILE) of a file on the hub, spelled OWNER/NAME/FILE; None for anything else."""
    owner, _, rest = weights.partition("/")
    name, _, file = rest.partition("/")
    return (f"{owner}/{name}", file) if owner and name and file else None


def is_file(weights: str) -> bool:
    """Whether `weights` names one file, here or on the hub, and not a folder or repository."""
    place = local_place(weights)
    return hub_file(weights) is not None if place is None else place.is_file()
