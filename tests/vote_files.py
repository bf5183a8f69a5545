"""Data to vote on, and votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tiny

from mmpo.data.vote_wins import Vote
from mmpo.records import content_id

PROMPTS = {"a cat": 3, "a dog": 2, "a hat": 2}


def sample_id(prompt: str, number: int) -> str:
    """The id of a sample's row."""
    return content_id("sample", prompt, number)


def samples(folder: Path, prompts: Mapping[str, int] = PROMPTS, *, by_seed: bool = False, first: int = 0) -> Path:
    """A folder of samples as a training keeps those of a round: one image a row, with its id.

    Args:
        prompts: {prompt: how many images}.
        by_seed: the first image of every prompt, then the second of every prompt, ...
        first: of the seeds of the pictures.
    """
    found = [(prompt, number) for prompt, count in prompts.items() for number in range(count)]
    rows = [
        {
            "id": sample_id(prompt, number),
            "prompt": prompt,
            "key": f"key of {prompt}",
            "split": "train",
            "number": number,
            "image": {"bytes": tiny.picture(first + at), "path": None},
            "provenance": f'{{"seed": {number}}}',
        }
        for at, (prompt, number) in enumerate(found)
    ]
    folder.mkdir(parents=True)
    rows = sorted(rows, key=lambda row: row["number"]) if by_seed else rows
    pq.write_table(pa.Table.from_pylist(rows), folder / "shard-00000.parquet")
    return folder


def vote(first: str, second: str, result: int | None, voter: str = "me", prompt: str = "a cat") -> Vote:
    """A vote whose time does not matter."""
    return Vote(first, second, prompt, result, voter, "2026-01-01T00:00:00+00:00")


def lines(votes: Sequence[Vote]) -> bytes:
    """A file of votes."""
    return b"".join(one.line() for one in votes)
