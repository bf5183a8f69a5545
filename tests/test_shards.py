"""Our own parquet: rows come back as they were written, in order, and nothing half written counts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pair_files import contents, read
from tiny import picture

from mmpo.data.images import decode
from mmpo.data.rows import list_row, list_schema, pair_row, pair_schema
from mmpo.data.shards import mark_done, read_done, read_rows, shard_file, write_shard
from mmpo.records import Candidate, Group, Prompt


def full_group(count: int) -> Group:
    """A group that uses every field that a row can hold."""
    return Group(
        id="0123456789abcdef01234567",
        prompt=Prompt("A red  cat", key="scene 5", split="tune"),
        candidates=[Candidate(picture(i), {"model": f"m{i}", "seed": i}) for i in range(count)],
        scores={"shapes": [1.0, *[0.25] * (count - 1)]},
        rank=list(range(1, count + 1)),
    )


def test_pair_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    group = full_group(2)
    write_shard(tmp_path, 0, [pair_row(group)], pair_schema(["shapes"]))
    (back,), report = read(tmp_path)
    assert (back.id, back.prompt, back.scores) == (group.id, group.prompt, group.scores)
    assert back.candidates == group.candidates
    assert back.source == f"{tmp_path / 'shard-00000.parquet'}, row 0"
    assert report.counts == {"rows": 1, "pairs": 1}


def test_list_rows_come_back_as_their_best_and_worst(tmp_path: Path) -> None:
    group = full_group(4)
    write_shard(tmp_path, 0, [list_row(group)], list_schema(["shapes"]))
    (back,), _ = read(tmp_path)
    assert back.prompt == group.prompt
    assert contents([back]) == [[picture(0), picture(3)]]


@pytest.mark.parametrize(("count", "columns"), [(2, ("chosen", "rejected")), (3, ("images",))])
def test_datasets_shows_our_images_as_images(tmp_path: Path, count: int, columns: tuple[str, ...]) -> None:
    from datasets import load_dataset

    group = full_group(count)
    schema = pair_schema(["shapes"]) if count == 2 else list_schema(["shapes"])
    file = write_shard(tmp_path, 0, [pair_row(group) if count == 2 else list_row(group)], schema)
    loaded = load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "hub"))["train"]
    shown = [loaded[0][column] for column in columns] if count == 2 else loaded[0]["images"]
    assert [image.size for image in shown] == [(16, 16)] * count
    assert shown[0].tobytes() == decode(group.candidates[0].image).tobytes()
    assert loaded[0]["prompt"] == "A red  cat"
    assert loaded[0]["scores"]["shapes"][0] == 1.0


def test_rows_are_read_in_order_of_shards_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for number in (10, 2):
        write_shard(tmp_path, number, [{"n": number}, {"n": number + 0.5}], pa.schema([("n", pa.float64())]))
    write_shard(tmp_path / ".work", 1, [{"n": 1}], pa.schema([("n", pa.float64())]))
    write_shard(tmp_path / "more", 1, [{"n": 99}], pa.schema([("n", pa.float64())]))
    assert [row["n"] for _, row in read_rows(tmp_path)] == [99, 2, 2.5, 10, 10.5]
    assert [source.rpartition(", ")[2] for source, _ in read_rows(shard_file(tmp_path, 2))] == ["row 0", "row 1"]


def test_a_failed_write_leaves_the_old_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pa.schema([("n", pa.int64())])
    file = write_shard(tmp_path, 0, [{"n": 1}], schema)
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path, 0, [{"n": 2}], schema)
    assert [row["n"] for _, row in read_rows(file)] == [1]
    assert [row["n"] for _, row in read_rows(tmp_path)] == [1]


def test_the_marker_holds_settings_and_summary(tmp_path: Path) -> None:
    assert read_done(tmp_path) is None
    mark_done(tmp_path, {"seed": 3}, {"pairs": 5})
    assert read_done(tmp_path) == {"settings": {"seed": 3}, "summary": {"pairs": 5}}
