"""Labels: scores of a reward beside the images, never in their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pair_files import NAN, write
from PIL import Image
from tiny import picture

from mmpo.data.shards import read_rows, shard_file
from pipelines.label import label
from rewards.scores import Scores


class PickyReward:
    """Scores by the prompt's length, cannot score prompts with a question mark, counts its calls."""

    name = "picky"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        self.calls += 1
        failed = ["?" in prompt for prompt in prompts]
        values = [NAN if bad else float(len(prompt)) for bad, prompt in zip(failed, prompts, strict=True)]
        return Scores(np.asarray(values, np.float32), ["asks" if bad else None for bad in failed])


def sample_rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as the sampling stage writes them, as far as labelling reads them."""
    return [
        {"id": f"id{i}", "prompt": text, "image": {"bytes": picture(i), "path": None}, "image_hash": f"hash{i}"}
        for i, text in enumerate(texts)
    ]


def test_labels_stand_beside_images_and_a_failed_row_is_null_with_its_error(tmp_path: Path) -> None:
    write(tmp_path / "samples", sample_rows(["cat", "why?"]), name="shard-00000")
    write(tmp_path / "samples", sample_rows(["a dog"]), name="shard-00001")
    before = {file: file.read_bytes() for file in (tmp_path / "samples").iterdir()}
    reward, done = PickyReward(), []
    assert label(tmp_path / "samples", reward, tmp_path / "labels", done.append) == 1
    rows = [row for _, row in read_rows(tmp_path / "labels")]
    assert [(row["score"], row["error"]) for row in rows] == [(3.0, None), (None, "asks"), (5.0, None)]
    assert {row["reward"] for row in rows} == {"picky"}
    assert [row["image_hash"] for row in rows] == ["hash0", "hash1", "hash0"]
    assert (reward.calls, done) == (2, [2, 1])
    shard_file(tmp_path / "labels", 1).unlink()
    assert label(tmp_path / "samples", reward, tmp_path / "labels") == 1
    assert reward.calls == 3
    assert before == {file: file.read_bytes() for file in (tmp_path / "samples").iterdir()}
