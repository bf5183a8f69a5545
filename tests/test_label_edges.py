"""Labelling where something else goes on too: other calls, other splits, stray files, one reward that says nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from label_data import Counting, jpeg, label_data, make_shapes
from pair_files import write

from mmpo.data.candidates import open_candidates
from mmpo.data.labels import column_folder, read_marker, rows_folder
from mmpo.data.shards import shard_file
from mmpo.files import drop_partials
from pipelines.label_folder import check_count, check_folder
from pipelines.label_run import LabelJob, _pieces
from pipelines.label_scoring import Scorer
from pipelines.label_spec import parse_specs
from pipelines.label_summary import summary_lines


def test_a_process_without_a_shard_of_its_own_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes over one shard the second has nothing to do, and may end before there are any rows."""
    data = make_shapes(tmp_path / "data", prompts=2)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert label_data(data, tmp_path / "labels", "random", shard_rows=1024) is None
    assert not rows_folder(tmp_path / "labels").exists()
    monkeypatch.setenv("RANK", "0")
    assert label_data(data, tmp_path / "labels", "random", shard_rows=1024) is not None
    shard_file(rows_folder(tmp_path / "labels"), 7).write_bytes(b"")
    with pytest.raises(ValueError, match="more candidates than the data now do"):
        check_count(tmp_path / "labels", 2)


def test_a_group_is_of_one_split(tmp_path: Path) -> None:
    rows = [{"prompt": "a cat", "image": jpeg(20 + n), "split": split} for n, split in enumerate(("train", "test") * 2)]
    order = [rows[k] for k in (0, 2, 1, 3)]
    write(tmp_path / "table", order)
    (tmp_path / "files").mkdir()
    lines = []
    for number, row in enumerate(rows):
        (tmp_path / "files" / f"{number}.jpg").write_bytes(row["image"])
        lines.append(json.dumps({**row, "image": f"{number}.jpg"}))
    (tmp_path / "files" / "data.jsonl").write_text("\n".join(lines))
    for name in ("table", "files"):
        groups = list(open_candidates(str(tmp_path / name)).groups())
        assert [[c.split for c in group] for group in groups] == [["train"] * 2, ["test"] * 2]
        assert len({group[0].group for group in groups}) == 2
    marker = label_data(tmp_path / "files" / "data.jsonl", tmp_path / "labels", "random")
    assert marker is not None
    assert (marker["groups"], marker["returning"]) == (2, 0)


def test_files_of_a_live_writer_stay(tmp_path: Path) -> None:
    """Two calls may add columns to one folder; the second must not take the first one's temporary files."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (os.getpid(), ended.pid, "x"):
        (tmp_path / f".shard-00000.parquet.{name}.partial").touch()
    drop_partials(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [f".shard-00000.parquet.{os.getpid()}.partial"]
    check_folder(tmp_path, {"path": "nowhere"}, [], redo=False)  # what a kill at the very first file leaves is no data


def test_what_a_shard_lacks_is_asked_once(tmp_path: Path) -> None:
    """Scores that another call writes meanwhile do not leave half a shard."""
    opened = open_candidates(str(make_shapes(tmp_path / "data", prompts=2)))
    job = LabelJob(opened, [], tmp_path / "labels", shard_rows=100)
    pieces = _pieces(job, [Scorer("random", Counting(), 4)], 0, 1)
    first = next(pieces)
    file = shard_file(column_folder(job.folder, "random"), 0)
    file.parent.mkdir(parents=True)
    file.touch()
    assert first.columns == next(pieces).columns == {"random"}


def test_one_reward_that_says_nothing_keeps_the_others(tmp_path: Path) -> None:
    data, labels = make_shapes(tmp_path / "data", prompts=2), tmp_path / "labels"
    prompts = [json.loads(line)["prompt"] for line in data.read_text().splitlines()]
    loaded: dict[str, Any] = {"random": Counting(), "jpeg_size": Counting(broken=prompts)}
    with pytest.raises(
        ValueError, match=r"reward jpeg_size: could score none of 6 rows.*finished all the same: random"
    ):
        label_data(data, labels, "random", "jpeg_size", loaded=loaded)
    marker = read_marker(labels)
    assert marker is not None
    assert [*marker["columns"]] == ["random"]


def test_a_call_that_scored_nothing_binds_nobody(tmp_path: Path) -> None:
    data, labels = make_shapes(tmp_path / "data", prompts=2), tmp_path / "labels"
    broken = [json.loads(data.read_text().splitlines()[0])["prompt"]]
    with pytest.raises(ValueError, match="no such word"):
        label_data(data, labels, "random,seed=1", loaded={"random": Counting(broken)}, strict=True)
    assert (column_folder(labels, "random") / "reward.json").is_file()
    label_data(data, labels, "random,seed=2", loaded={"random": Counting(identity="2")})
    with pytest.raises(ValueError, match="was scored otherwise: options"):
        label_data(data, labels, "random,seed=1", loaded={"random": Counting()})


def test_a_row_that_two_rewards_fail_on_is_one_row(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=3, each=1)
    prompts = [json.loads(line)["prompt"] for line in data.read_text().splitlines()]
    (data.parent / "1-0.png").write_bytes(b"")
    loaded: dict[str, Any] = {"random": Counting([prompts[0]]), "jpeg_size": Counting([prompts[0]])}
    marker = label_data(data, tmp_path / "labels", "random", "jpeg_size", loaded=loaded)
    assert marker is not None
    said = list(summary_lines(marker, ["random", "jpeg_size"]))
    assert said[3] == (
        "1 rows that no reward can score, 2 times a reward failed on a row; a score that is not there is null, never 0:"
    )
    assert len(said) == 4 + 3


def test_what_a_folder_of_images_lacks_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg())
    with pytest.raises(ValueError, match=r"1 images and no caption; write x.txt beside x.png, or a metadata.jsonl"):
        open_candidates(str(folder))
    (folder / "a.txt").write_bytes("\ufeffein Bär\r\n".encode())
    (folder / "b.txt").write_text("nobody's")
    opened = open_candidates(str(folder))
    assert opened.source.note == "captions without an image of their name: 1 (b.txt)"
    assert [c.prompt for group in opened.groups() for c in group] == ["ein Bär"]


def test_folders_of_pairs_by_split_are_pairs(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for side, size in (("w", 16), ("l", 17)):
            (tmp_path / split / side).mkdir(parents=True)
            (tmp_path / split / side / "1.jpg").write_bytes(jpeg(size))
        (tmp_path / split / "w" / "1.txt").write_text("a cat")
    opened = open_candidates(str(tmp_path))
    assert opened.kind == "pairs"
    assert [[(c.split, c.error) for c in group] for group in opened.groups()] == [
        [("test", None)] * 2,
        [("train", None)] * 2,
    ]


def test_a_large_group_that_is_cut_does_not_come_back(tmp_path: Path) -> None:
    write(tmp_path / "table", [{"prompt": "x", "image": jpeg(8) + bytes([n // 256, n % 256])} for n in range(300)])
    marker = label_data(tmp_path / "table", tmp_path / "labels", "random")
    assert marker is not None
    assert (marker["groups"], marker["returning"]) == (2, 0)


def test_a_comma_in_quotes_belongs_to_the_value() -> None:
    (spec,) = parse_specs(['mps,condition="light, colour",as=x'], "images")
    assert (spec.column, spec.options) == ("x", {"condition": "light, colour"})
