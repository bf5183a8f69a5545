"""The canonical rows: pairs (`prompt, chosen, rejected`) and ranked lists (`prompt, images, scores, rank`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmpo.records import Candidate, Group, Prompt


def pair_schema(rewards: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of pair rows; `datasets.load_dataset` shows the images as images."""
    from datasets import Features, Image, List, Value

    columns: dict[str, Any] = {
        "id": Value("string"),
        "prompt": Value("string"),
        "key": Value("string"),
        "split": Value("string"),
        "chosen": Image(),
        "rejected": Image(),
        "chosen_hash": Value("string"),
        "rejected_hash": Value("string"),
        "provenance": Value("string"),
    }
    if rewards:
        columns["scores"] = {name: List(Value("float32")) for name in rewards}
    return Features(columns).arrow_schema


def list_schema(rewards: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of ranked-list rows."""
    from datasets import Features, Image, List, Value

    columns: dict[str, Any] = {
        "id": Value("string"),
        "prompt": Value("string"),
        "key": Value("string"),
        "split": Value("string"),
        "images": List(Image()),
        "image_hashes": List(Value("string")),
        "rank": List(Value("int32")),
        "provenance": Value("string"),
    }
    if rewards:
        columns["scores"] = {name: List(Value("float32")) for name in rewards}
    return Features(columns).arrow_schema


def pair_row(group: Group) -> dict[str, Any]:
    """The row of a pair; chosen first."""
    assert len(group.candidates) == 2
    chosen, rejected = group.candidates
    return {
        **_common(group),
        "chosen": _image(chosen),
        "rejected": _image(rejected),
        "chosen_hash": chosen.image_hash,
        "rejected_hash": rejected.image_hash,
    }


def list_row(group: Group) -> dict[str, Any]:
    """The row of a ranked list, in the group's order."""
    return {
        **_common(group),
        "images": [_image(candidate) for candidate in group.candidates],
        "image_hashes": [candidate.image_hash for candidate in group.candidates],
        "rank": list(group.rank) if group.rank is not None else list(range(1, len(group.candidates) + 1)),
    }


def group_from_row(row: Mapping[str, Any], images: Sequence[bytes], *, source: str, group_id: str) -> Group:
    """A group from a canonical row and its images' bytes."""
    provenance = json.loads(row.get("provenance") or "null") or [{} for _ in images]
    return Group(
        id=row.get("id") or group_id,
        prompt=Prompt(row["prompt"], row.get("key") or "", row.get("split") or ""),
        candidates=[Candidate(image, made) for image, made in zip(images, provenance, strict=True)],
        scores={name: values for name, values in (row.get("scores") or {}).items() if values is not None},
        rank=row.get("rank"),
        source=source,
    )


def _common(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "prompt": group.prompt.text,
        "key": group.prompt.cluster,
        "split": group.prompt.split,
        "provenance": json.dumps([dict(c.provenance) for c in group.candidates], sort_keys=True),
        "scores": {name: list(values) for name, values in group.scores.items()} or None,
    }


def _image(candidate: Candidate) -> dict[str, Any]:
    return {"bytes": candidate.image, "path": None}
