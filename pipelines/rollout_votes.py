"""Rounds that people decide: images for `mmpo vote`, and their votes as preferences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pyarrow.parquet import read_table
from torch import Tensor

from mmpo.data.images import encode
from mmpo.data.rollouts import Judge, Row
from mmpo.data.shards import write_shard
from mmpo.data.vote_wins import VOTES, parse_votes, share_of, wins_of
from mmpo.records import Prompt, bytes_hash, content_id
from pipelines.generate import sample_schema

ABOUT = "about.json"
"""Of a round's folder, written first: what it is sampled with."""
IMAGES = "images"


def write_images(
    folder: Path, number: int, rows: Sequence[Row], prompts: Sequence[Prompt], images: Sequence[Any]
) -> None:
    """A shard of a round's images, as `mmpo vote` and `mmpo label` read them.

    Args:
        folder: of the round.
        number: of the chunk.
        rows: B comparisons.
        prompts: B of them.
        images: B·K PIL images.
    """
    count, of = len(images) // len(rows), round_identity(folder)
    shown = []
    for place, image in enumerate(images):
        row, prompt, candidate = rows[place // count], prompts[place // count], place % count
        data = encode(image)
        shown.append(
            {
                "id": candidate_id(of, row, candidate),
                "prompt": prompt.text,
                "key": prompt.cluster,
                "split": prompt.split,
                "number": candidate,
                "image": {"bytes": data, "path": None},
                "image_hash": bytes_hash(data),
                "provenance": json.dumps({"round": folder.name, "comparison": row.id, "number": candidate}),
            }
        )
    write_shard(folder / IMAGES, number, shown, sample_schema())


def round_identity(folder: Path) -> str:
    """Of the weights and settings that a round was sampled with."""
    return str(json.loads((folder / ABOUT).read_text())["identity"])


def candidate_id(of: str, row: Row, candidate: int) -> str:
    """The name that a candidate has in votes; votes on another run's images of the same prompt are never taken for it.

    Args:
        of: identity of its round.
    """
    return content_id("candidate", of, row.id, candidate)


def vote_place(folder: Path, votes: Path | None) -> Path:
    """Where the votes of a round are to be: as the recipe says, or `votes` in the round's folder."""
    return votes or folder / "votes"


def votes_so_far(folder: Path, place: Path) -> str | None:
    """Which votes a round is decided by: so many bytes of the file, and their hash. None: none is on its images yet.

    Args:
        folder: of the round.
        place: file or folder.
    Raises:
        ValueError: the round has no images to vote on.
    """
    shown = {name for file in (folder / IMAGES).glob("*.parquet") for name in _ids(file)}
    if not shown:
        raise ValueError(
            f"rollout.labels: votes: {folder} has no images to vote on; it was sampled for rewards: leave labels out"
        )
    file = _file(place)
    data = file.read_bytes() if file.is_file() else b""
    votes = parse_votes(data, f"votes {file}")[0]
    return _told(data) if any({vote.first, vote.second} & shown for vote in votes) else None


def judge_by_votes(folder: Path, place: Path, told: str) -> Judge:
    """Preferences of a round: a candidate wins where more than half of the voters say so.

    Args:
        folder: of the round.
        place: file or folder.
        told: see `votes_so_far`; votes that came after those do not count, so that a resumed run decides the same.
    Raises:
        ValueError: those votes are not in the file any more.
    """
    file = _file(place)
    data = file.read_bytes()[: int(told.split("-")[0])] if file.is_file() else b""
    if _told(data) != told:
        raise ValueError(
            f"votes {file}: does not begin with the votes that {folder.name} was trained on; put that file back, or "
            "start a new output folder"
        )
    shares, of = wins_of(parse_votes(data, f"votes {file}")[0]), round_identity(folder)

    def judge(row: Row, scores: Tensor) -> Tensor:
        names = [candidate_id(of, row, candidate) for candidate in range(scores.shape[1])]
        return torch.tensor([[(share_of(shares, a, b) or 0.0) > 0.5 for b in names] for a in names])

    return judge


def _file(place: Path) -> Path:
    return place / VOTES if place.is_dir() else place


def _told(data: bytes) -> str:
    return f"{len(data)}-{bytes_hash(data)[:16]}"


def _ids(file: Path) -> list[str]:
    return [str(name) for name in read_table(file, columns=["id"])["id"].to_pylist()]
