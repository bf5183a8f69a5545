"""What `mmpo respond` writes: rows of answers, and beside each shard what was asked, so that a call can go on.

DIR/shard-NNNNN.parquet        a question a row with its image, answers, and what made each
DIR/.work/shard-NNNNN.json     which questions the shard is of, which rows were bad, and counts
DIR/respond.yaml               the resolved recipe (recipe.yaml would make `mmpo label DIR` take DIR for a run)
DIR/done.json                  the marker, written last
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpo.data.candidates import DataCandidate
from mmpo.data.format_values import caption
from mmpo.data.shards import read_done, shard_file
from mmpo.files import write_json
from mmpo.records import content_id
from mmpo.respond_recipe import RespondRecipe
from rewards.vlm_sampling import Answer

WORK = ".work"
RECIPE = "respond.yaml"
SETTINGS = "settings.json"


def settings_of(recipe: RespondRecipe, weights: str) -> dict[str, Any]:
    """What answers depend on: model, data, draws. Not on batches, the device, or where the folder is."""
    tree = recipe.model_dump(mode="json", exclude={"output": True, "model": {"device", "licence"}})
    tree["responses"].pop("batch_size")
    tree["data"].pop("on_bad_row")
    return {**tree, "weights": weights}


def check_folder(folder: Path, made: Mapping[str, Any], *, command: str = "mmpo respond") -> None:
    """Claims a folder for these settings of a command.

    Raises:
        ValueError: it holds something else; nothing is overwritten.
    """
    done = read_done(folder)
    file = folder / WORK / SETTINGS
    before = done["settings"] if done is not None else json.loads(file.read_text()) if file.is_file() else None
    if before is None:
        if any(folder.glob("*.parquet")) or done is not None:
            raise ValueError(f"output {folder}: holds what {command} did not write; give another folder")
        write_json(file, dict(made))
        return
    changed = sorted(_differences(before, made))
    if changed:
        raise ValueError(
            f"output {folder}: was made with other settings ({', '.join(changed)}); give another output, "
            "or delete that folder"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> list[str]:
    found = []
    for name in {*before, *now}:
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{place}{name}.")
        elif one != other:
            found.append(f"{place}{name}")
    return found


def response_schema() -> pa.Schema:
    """Columns of the answers, which `mmpo label` and `mmpo data pair` read as format "answers"."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    columns: dict[str, Any] = dict.fromkeys(("id", "prompt", "key", "split", "image_hash", "provenance"), text)
    return Features({**columns, "image": Image(), "responses": List(text)}).arrow_schema


def response_row(
    row: DataCandidate, answers: Sequence[Answer], made: Mapping[str, Any], counts: Counter[str]
) -> dict[str, Any] | None:
    """The row of a question and its answers; None where none of them can be kept.

    Args:
        answers: in the order of their numbers.
        made: settings, weights and licence.
        counts: "rows", "responses", "cut" (not ended), "unusable" (empty, or holding what no text has) are counted up.
    """
    texts: list[str] = []
    provenance: list[dict[str, Any]] = []
    for number, answer in enumerate(answers):
        try:
            texts.append(caption({"response": answer.text}, "response"))
        except ValueError:
            counts["unusable"] += 1
            continue
        provenance.append({**_provenance(made), "number": number, "cut": answer.cut})
        counts["cut"] += answer.cut
    counts["rows"] += bool(texts)
    counts["responses"] += len(texts)
    if not texts:
        return None
    drawn = {"model": made["model"], "responses": made["responses"], "weights": made["weights"]}
    return {
        "id": content_id("responses", row.image_hash, row.prompt, drawn),
        "prompt": row.prompt,
        "key": row.cluster,
        "split": row.split,
        "image": {"bytes": row.image, "path": None},
        "image_hash": row.image_hash,
        "responses": texts,
        "provenance": json.dumps(provenance, sort_keys=True),
    }


def _provenance(made: Mapping[str, Any]) -> dict[str, Any]:
    model, responses = made["model"], made["responses"]
    said = {"model": model["path"], "revision": model["revision"], "weights": made["weights"], "dtype": model["dtype"]}
    said |= {name: responses[name] for name in ("temperature", "top_p", "max_new_tokens", "seed")}
    said["licence"] = made.get("licence")
    return {name: value for name, value in said.items() if value is not None}


def side_file(folder: Path, number: int) -> Path:
    """What a shard is of."""
    return folder / WORK / f"shard-{number:05d}.json"


def write_side(
    folder: Path, number: int, chunk: Sequence[DataCandidate], bad: Sequence[str], counts: Counter[str]
) -> None:
    """Written before the shard: a shard that is there has it."""
    write_json(side_file(folder, number), {"asked": _asked(chunk), "bad": list(bad), "counts": dict(counts)})


def read_side(file: Path) -> dict[str, Any]:
    """What `write_side` wrote."""
    return json.loads(file.read_text())


def is_whole(folder: Path, number: int, chunk: Sequence[DataCandidate]) -> bool:
    """Whether a shard is there.

    Raises:
        ValueError: it is, of other questions: the data changed meanwhile.
    """
    file = side_file(folder, number)
    if not shard_file(folder, number).is_file() or not file.is_file():
        return False
    if read_side(file)["asked"] != _asked(chunk):
        raise ValueError(
            f"output {folder}: shard {number} answers other questions than the data now holds there; "
            "give another output, or delete that folder"
        )
    return True


def _asked(chunk: Sequence[DataCandidate]) -> str:
    return content_id("asked", *(_of(row) for row in chunk))


def _of(row: DataCandidate) -> tuple[Any, ...]:
    answer = () if row.response is None else (row.response,)
    return row.image_hash, row.prompt, row.error is None, *answer
