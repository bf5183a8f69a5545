"""Rounds that people decide: images for `mmpo vote`, and their votes as preferences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmpo.data.images import encode
from mmpo.data.rollouts import Judge, Row
from mmpo.data.shards import write_shard
from mmpo.data.vote_wins import VOTES, read_votes, share_of, wins_of
from mmpo.records import Prompt, bytes_hash, content_id
from mmpo.training.rounds import Waiting
from pipelines.generate import sample_schema

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
    count = len(images) // len(rows)
    shown = []
    for place, image in enumerate(images):
        row, prompt, candidate = rows[place // count], prompts[place // count], place % count
        data = encode(image)
        shown.append(
            {
                "id": candidate_id(folder, row, candidate),
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


def candidate_id(folder: Path, row: Row, candidate: int) -> str:
    """The name that a candidate of a round has in votes."""
    return content_id("candidate", folder.name, row.id, candidate)


def judge_by_votes(folder: Path, votes: Path | None) -> Judge:
    """Preferences of a round: a candidate wins where more than half of the voters say so.

    Args:
        folder: of the round.
        votes: file or folder; None: `votes` in the round's folder.
    Raises:
        Waiting: there are none yet.
    """
    place = votes or folder / "votes"
    file = place / VOTES if place.is_dir() else place
    if not file.is_file():
        raise Waiting(
            f"{folder.name} waits for votes: run `mmpo vote {folder / IMAGES} --output {place}`, then go on with "
            "`mmpo train ... --resume`"
        )
    shares = wins_of(read_votes(file))

    def judge(row: Row, scores: Tensor) -> Tensor:
        names = [candidate_id(folder, row, candidate) for candidate in range(scores.shape[1])]
        return torch.tensor([[(share_of(shares, a, b) or 0.0) > 0.5 for b in names] for a in names])

    return judge
