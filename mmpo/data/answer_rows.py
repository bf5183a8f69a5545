"""Rows of text answers about an image, as trainers of VLMs take them: pairs (`prompt, images, chosen, rejected`) and
ranked lists (`prompt, images, responses, scores, rank, value`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmpo.data.rows import list_row
from mmpo.records import Group


def answer_schema(
    rewards: Sequence[str] = (), *, numbers: Sequence[str] = (), rejected_images: bool = False
) -> pa.Schema:
    """Arrow schema of pairs of answers.

    Args:
        rewards: names in the column of scores.
        numbers: further columns of one number.
        rejected_images: whether images are rejected too.
    """
    from datasets import Features, Image, List, Value

    texts = ("id", "prompt", "key", "split", "chosen", "rejected", "provenance")
    columns: dict[str, Any] = {name: Value("string") for name in texts}
    columns |= {"images": List(Image()), "image_hashes": List(Value("string"))}
    if rejected_images:
        columns |= {"rejected_images": List(Image()), "rejected_image_hashes": List(Value("string"))}
    columns |= {name: Value("float32") for name in numbers}
    if rewards:
        columns["scores"] = {name: List(Value("float32")) for name in rewards}
    return Features(columns).arrow_schema


def answer_row(
    *,
    id: str,
    prompt: str,
    key: str,
    split: str,
    image: bytes,
    image_hash: str,
    answers: tuple[str, str],
    made: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[float | None]],
) -> dict[str, Any]:
    """The row of a pair of answers.

    Args:
        prompt: the question.
        image: the file's bytes, of what was asked about.
        answers: chosen, rejected.
        made: of each answer, what made it.
        scores: {reward: [chosen's, rejected's]}.
    """
    return {
        "id": id,
        "prompt": prompt,
        "key": key,
        "split": split,
        "images": [{"bytes": image, "path": None}],
        "image_hashes": [image_hash],
        "chosen": answers[0],
        "rejected": answers[1],
        "provenance": json.dumps([dict(one) for one in made], sort_keys=True, default=str),
        "scores": {name: list(values) for name, values in scores.items()} or None,
    }


def answer_list_schema(rewards: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of ranked lists of answers.

    Args:
        rewards: names in the column of scores.
    """
    from datasets import Features, Image, List, Value

    columns: dict[str, Any] = {name: Value("string") for name in ("id", "prompt", "key", "split", "provenance")}
    columns |= {"images": List(Image()), "image_hashes": List(Value("string")), "responses": List(Value("string"))}
    columns |= {"rank": List(Value("int32")), "value": List(Value("float64"))}
    if rewards:
        columns["scores"] = {name: List(Value("float32")) for name in rewards}
    return Features(columns).arrow_schema


def answer_list_row(group: Group, image_hash: str, answers: Sequence[str]) -> dict[str, Any]:
    """The row of a ranked list of answers.

    Args:
        group: all of its candidates hold the one image that was asked about.
        answers: [K], in the group's order.
    """
    image = {"bytes": group.candidates[0].image, "path": None}
    return {**list_row(group), "images": [image], "image_hashes": [image_hash], "responses": list(answers)}
