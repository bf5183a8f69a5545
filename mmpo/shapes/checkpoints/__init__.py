"""The shipped checkpoints: diffusers folders, a transformers CLIP and LLaVA, frozen by hash. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
SUMS = _FOLDER / "SHA256SUMS"
NAMES = ("sd", "sdxl", "sd3", "clip", "step_aware", "llava")
_INDEX = ("model_index.json", "config.json")  # of a pipeline; of a model alone


def available() -> tuple[str, ...]:
    """Names of the shipped checkpoints."""
    return tuple(sorted({path.parent.name for index in _INDEX for path in _FOLDER.glob(f"*/{index}")}))


def checkpoint_path(name: str = "sd") -> Path:
    """Folder of a shipped checkpoint, for `from_pretrained` of its class; a pipeline's is a recipe's `model.path`."""
    if name not in available():
        raise ValueError(f"checkpoint {name!r} is not shipped; available: {', '.join(available()) or 'none'}")
    return _FOLDER / name


def _hashes(name: str) -> dict[str, str]:
    folder = checkpoint_path(name)
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(_FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def frozen_hashes(name: str = "sd") -> dict[str, str]:
    """SHA-256 of each file as frozen, by path relative to the checkpoints' folder."""
    checkpoint_path(name)
    if not SUMS.is_file():
        raise ValueError(f"checkpoint {name!r}: {SUMS.name} is missing beside it; install mmpo again")
    pairs = (line.split("  ", 1) for line in SUMS.read_text(encoding="utf-8").splitlines() if line)
    return {path: digest for digest, path in pairs if path.startswith(f"{name}/")}


def verify_checkpoint(name: str = "sd") -> None:
    """Raise `ValueError`, naming the files, unless the folder is exactly what was frozen."""
    frozen, found = frozen_hashes(name), _hashes(name)
    wrong = sorted(path for path in frozen.keys() | found.keys() if frozen.get(path) != found.get(path))
    if wrong:
        raise ValueError(
            f"checkpoint {name!r} differs from {SUMS.name} in: {', '.join(wrong)}; restore these files from the "
            "release, or keep your own checkpoint in another folder and pass its path"
        )


def freeze(name: str = "sd") -> None:
    """Write the hashes of a checkpoint as it is now; for the training script only, figures rest on them."""
    lines = SUMS.read_text(encoding="utf-8").splitlines() if SUMS.is_file() else []
    lines = [line for line in lines if line and not line.split("  ", 1)[1].startswith(f"{name}/")]
    lines += [f"{digest}  {path}" for path, digest in _hashes(name).items()]
    SUMS.write_text("\n".join(sorted(lines, key=lambda line: line.split("  ", 1)[1])) + "\n", encoding="utf-8")
