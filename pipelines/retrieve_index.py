"""The images that can be retrieved, with their features, in shards that are resumed.

FOLDER/shard-NNNNN.parquet        hash, image, what it shows (`pixels`), features
FOLDER/.work/shard-NNNNN.json     which images the shard is of, and which could not be read
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from mmpo.data.candidates import DataCandidate
from mmpo.data.images import decode
from mmpo.data.retrieval import unit_rows
from mmpo.data.shards import read_table, shard_file, write_shard
from mmpo.records import bytes_hash
from pipelines.respond_files import is_whole, write_side

PER_SHARD = 64
REMEMBERED = 16
"""Shards whose images are kept in memory."""

Embed = Callable[[Image.Image], Tensor]
"""An upright RGB image -> [D]."""


def pixels_name(image: Image.Image) -> str:
    """What an image shows, whatever file it stands in: the hash of size and pixels."""
    return bytes_hash(f"{image.size}".encode() + image.tobytes())


def distinct(rows: Iterable[DataCandidate]) -> Iterator[DataCandidate]:
    """Each image file once, in the order in which they come; rows without one are left out."""
    seen: set[str] = set()
    for row in rows:
        if row.image_hash and row.image_hash not in seen:
            seen.add(row.image_hash)
            yield row


def write_index_shard(folder: Path, number: int, rows: Sequence[DataCandidate], embed: Embed) -> None:
    """One shard of the index; one that is there is kept.

    Raises:
        ValueError: it is there, of other images.
    """
    if is_whole(folder, number, rows):
        return
    found, bad = [], []
    for row in rows:
        try:
            image = decode(row.image)
        except ValueError as error:
            bad.append(f"{row.place}: {error}")
            continue
        features = embed(image).tolist()
        found.append({"hash": row.image_hash, "image": row.image, "pixels": pixels_name(image), "features": features})
    write_side(folder, number, rows, bad, Counter(images=len(found)))
    types = {"hash": pa.string(), "image": pa.binary(), "pixels": pa.string(), "features": pa.list_(pa.float32())}
    write_shard(folder, number, found, pa.schema(list(types.items())))


class ImageIndex:
    """The shards of a folder as one index, each picture once.

    Args:
        folder: with `shards` whole shards.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self._folder = folder
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._places: list[tuple[int, int]] = []
        self.names: list[str] = []
        self.hashes: list[str] = []
        rows: list[Any] = []
        known: dict[str, int] = {}
        for number in range(shards):
            table = read_table(shard_file(folder, number), ["hash", "pixels", "features"]).to_pydict()
            for place, (pixels, features) in enumerate(zip(table["pixels"], table["features"], strict=True)):
                if pixels not in known:
                    known[pixels] = len(rows)
                    rows.append(np.asarray(features, dtype=np.float32))
                    self._places.append((number, place))
                    self.names.append(pixels)
                    self.hashes.append(table["hash"][place])
        self._known = known
        self.features = unit_rows(torch.from_numpy(np.stack(rows))) if rows else torch.empty(0, 0)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, pixels: str) -> Tensor | None:
        """[D] features of a picture that is in it, of length 1."""
        place = self._known.get(pixels)
        return None if place is None else self.features[place]

    def image(self, place: int) -> bytes:
        """The file's bytes of an image."""
        number, row = self._places[place]
        if number not in self._kept:
            self._kept[number] = read_table(shard_file(self._folder, number), ["image"])["image"]
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number][row].as_py()
