"""Exports that are folders: written whole, with no path of this machine in their configs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from mmpo import __version__
from mmpo.files import replace_folder
from pipelines.report_private import Known, public, public_config
from pipelines.report_push import CONFIGS

ABOUT = "mmpo.json"
"""What says that a folder is an export of ours, and of what."""


def write_folder(place: Path, known: Known, fill: Callable[[Path], None]) -> Path:
    """Fills a folder, which is then whole, or as it was before.

    Args:
        known: places of this machine.
        fill: writes into the folder that it is given, `ABOUT` among the files.
    """
    with replace_folder(place) as partial:
        fill(partial)
        for file in partial.rglob("*.json"):
            if file.name.endswith(CONFIGS):
                file.write_bytes(public_config(file.read_bytes(), known))
        about = {**json.loads((partial / ABOUT).read_text(encoding="utf-8")), "mmpo": __version__}
        (partial / ABOUT).write_text(json.dumps(public(about, known), indent=2, sort_keys=True) + "\n")
    return place


def copy_folder(source: Path, partial: Path) -> None:
    """A folder's files but the hidden ones."""
    shutil.copytree(source, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def is_free(place: Path) -> bool:
    """Whether nothing of a user's stands there: nothing, an empty folder, or an earlier export."""
    return (place / ABOUT).is_file() or not place.exists() or (place.is_dir() and not any(place.iterdir()))
