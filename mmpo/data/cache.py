"""Tensors computed once and kept on disk, keyed by content and by what computed them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmpo.files import write_bytes, write_json
from mmpo.records import content_id


class TensorCache:
    """Named tensors per key, in immutable shards that are memory-mapped when read.

    Args:
        folder: parent of all caches.
        kind: "latents", "text".
        made_by: everything the values depend on besides the key: weights' hash, resolution, precision. It is part
            of the folder's name, so a cache of other weights is never used.
        shard_rows: rows per file.
    """

    def __init__(self, folder: Path, kind: str, made_by: Mapping[str, Any], shard_rows: int = 1024) -> None:
        self.folder = folder / f"{kind}-{content_id(kind, dict(made_by))[:16]}"
        self._rows: dict[str, tuple[int, int]] = {}
        self._shards: list[dict[str, Tensor]] = []
        self._pending: dict[str, dict[str, Tensor]] = {}
        self._shard_rows = shard_rows
        self.dropped: list[str] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "about.json").is_file():
            write_json(self.folder / "about.json", {"kind": kind, **made_by})
        for index in sorted(self.folder.glob("*.keys.json")):
            self._open(index)

    def __contains__(self, key: str) -> bool:
        return key in self._rows or key in self._pending

    def __len__(self) -> int:
        return len(self._rows) + len(self._pending)

    def add(self, keys: Sequence[str], values: Mapping[str, Tensor]) -> None:
        """Keeps one row per key of each tensor [N, ...]; full shards go to disk."""
        for row, key in enumerate(keys):
            self._pending[key] = {name: value[row].detach().cpu().clone() for name, value in values.items()}
        if len(self._pending) >= self._shard_rows:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending: the tensors first, the list of keys (which makes the shard valid) last."""
        if not self._pending:
            return
        keys = list(self._pending)
        names = self._pending[keys[0]].keys()
        tensors = {name: torch.stack([self._pending[key][name] for key in keys]).contiguous() for name in names}
        stem = content_id("shard", keys)[:16]
        write_bytes(self.folder / f"{stem}.safetensors", save(tensors))
        index = self.folder / f"{stem}.keys.json"
        write_json(index, keys)
        self._pending = {}
        self._open(index)

    def get(self, key: str) -> dict[str, Tensor]:
        """The tensors of one key (views of the mapped file; do not write to them).

        Raises:
            KeyError: the key was never added.
        """
        if key in self._pending:
            return self._pending[key]
        shard, row = self._rows[key]
        return {name: tensor[row] for name, tensor in self._shards[shard].items()}

    def _open(self, index: Path) -> None:
        """Maps a shard; a damaged one is dropped, so that its rows are computed again."""
        file = index.with_name(index.name.replace(".keys.json", ".safetensors"))
        try:
            keys = json.loads(index.read_text())
            with safe_open(file, framework="pt") as source:
                tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 (not a mapping)
            if any(len(tensor) != len(keys) for tensor in tensors.values()):
                raise ValueError("number of keys and rows differ")
        except (SafetensorError, OSError, ValueError) as error:
            self.dropped.append(f"{file}: {error}")
            return
        self._shards.append(tensors)
        self._rows.update({key: (len(self._shards) - 1, row) for row, key in enumerate(keys)})
