"""Rows of answers about images in the layouts that people have, for the tests that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpo.data.images import encode


def png(seed: int, width: int = 8, height: int = 8) -> bytes:
    """A small picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels))


def pictures(folder: Path, count: int = 3) -> Path:
    """A folder with 0.png, 1.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(number))
    return folder


def write_json(file: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as one JSON list, or as lines where the file's name says so."""
    if file.suffix == ".jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        file.write_text(json.dumps(list(rows)))
    return str(file)


def user(content: Any) -> dict[str, Any]:
    """A message of the user's."""
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    """A message of the assistant's."""
    return {"role": "assistant", "content": content}


def said(who: str, value: str) -> dict[str, str]:
    """A message as LLaVA and ShareGPT have it."""
    return {"from": who, "value": value}
