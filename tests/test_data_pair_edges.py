"""`mmpo data pair` where labels and data no longer fit, where nothing was compared, and where nobody finished."""

from __future__ import annotations

from pathlib import Path

import command_line
import pytest
import tiny
from command_line import Main, assert_refused
from label_files import label_with, samples

from mmpo.data.labels import mark_labels, read_marker, write_reward
from mmpo.data.shards import read_done, read_rows

main = command_line.main
PICTURES = {prompt: [tiny.picture(10 * at + k) for k in range(2)] for at, prompt in enumerate(("a cat", "a dog"))}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return samples(tmp_path / "samples", PICTURES)


def test_rows_that_came_later_are_told(main: Main, data: Path, tmp_path: Path) -> None:
    labels = label_with(data, tmp_path / "labels", {"clip": lambda c: float(c.number)})
    arguments = ("data", "pair", data, "--labels", labels, "--output")
    assert "the data have more rows" not in main(*arguments, tmp_path / "all").out
    new = samples(tmp_path / "new", {"a hat": PICTURES["a cat"]}) / "shard-00000.parquet"
    new.rename(data / "shard-00001.parquet")
    result = main(*arguments, tmp_path / "out")
    assert result.code == 0, result.err
    assert "the data have more rows than were labelled" in result.out
    done = read_done(tmp_path / "out")
    assert done is not None
    assert done["summary"]["data go on"] == 1


def test_candidates_that_no_reward_compared_are_no_pair(main: Main, data: Path, tmp_path: Path) -> None:
    """z-scores of different rewards could be set against each other; nobody scored both pictures."""
    columns = {
        "clip": lambda c: float(c.number) if c.prompt == "a dog" or c.number else None,
        "hps": lambda c: float(c.number) if c.prompt == "a dog" or not c.number else None,
    }
    labels = label_with(data, tmp_path / "labels", columns)
    result = main("data", "pair", data, "--labels", labels, "--by", "zscore", "--output", tmp_path / "out")
    assert "left out, not compared: 1 (no reward scored both)" in result.out
    rows = [row for _, row in read_rows(tmp_path / "out")]
    assert [(row["prompt"], row["agreement"]) for row in rows] == [("a dog", 1)]


@pytest.mark.parametrize("weight", ["-1", "0"])
def test_a_weight_that_would_be_dropped_is_refused(main: Main, data: Path, tmp_path: Path, weight: str) -> None:
    labels = label_with(data, tmp_path / "labels", {"size": lambda c: float(c.number)})
    result = main("data", "pair", data, "--labels", labels, "--reward", f"size={weight}", "--dry-run")
    assert_refused(result, f"--reward size={weight}: a weight is above 0")


def test_what_did_not_finish_is_told_from_a_wrong_name(main: Main, data: Path, tmp_path: Path) -> None:
    labels = label_with(data, tmp_path / "labels", {"clip": lambda c: float(c.number)})
    write_reward(labels, "hps", {"name": "hps", "options": {}, "identity": {}, "view": ""})
    arguments = ("data", "pair", data, "--labels", labels, "--dry-run")
    assert_refused(main(*arguments, "--reward", "hps"), "--reward hps: its labelling did not finish")
    assert_refused(main(*arguments, "--reward", "hps=2"), "--reward hps: its labelling did not finish")
    assert_refused(main(*arguments, "--reward", "clop"), "did you mean 'clip'?")
    mark_labels(labels, {**(read_marker(labels) or {}), "columns": {}})  # --redo of its only column, killed
    assert_refused(main(*arguments), f"labels {labels}: its labelling did not finish; run the same mmpo label again")
