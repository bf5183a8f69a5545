"""Conversion: what is written reads back as the same pairs, from every layout."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pair_files import PICK_A_PIC_SCHEMA, read
from PIL import Image
from tiny import picture

from mmpo.data import exports
from mmpo.data.images import decode, encode
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import read_rows, write_shard
from mmpo.records import Candidate, Group, Prompt, content_id
from pipelines.data_convert import TARGETS, convert_lines, convert_pairs
from pipelines.data_source import locate

TEXTS = [
    "a red cat",
    "../../etc/passwd",
    "two\nlines",
    'Ünïcode 🙂 “quotes” "x", {y}',
    "<script>alert(1)</script>",
    "con",
]


def groups_of(count: int, *, splits: tuple[str, ...] = ("train", "test"), scores: bool = True) -> list[Group]:
    """Pairs with awkward prompts, PNG and JPEG images, scores and provenance."""
    groups = []
    for n in range(count):
        images = [picture(2 * n), encode(decode(picture(2 * n + 1)), lossless=n % 2 == 0)]
        groups.append(
            Group(
                content_id("g", n),
                Prompt(TEXTS[n % len(TEXTS)], f"key {n % 4}" if scores else "", splits[n % len(splits)]),
                [Candidate(image, {"model": f"m{side}", "seed": n}) for side, image in enumerate(images)],
                scores={"r": [1.0 + n, None]} if scores else {},
                rank=[1, 2],
            )
        )
    return groups


def written(folder: Path, groups: list[Group]) -> Path:
    """Canonical shards of the groups."""
    rewards = sorted({name for group in groups for name in group.scores})
    write_shard(folder, 0, [pair_row(group) for group in groups], pair_schema(rewards))
    return folder


def pairs_at(path: Path) -> Counter[tuple[str, bytes, bytes]]:
    """Prompt, chosen and rejected of everything that reads back, with nothing left out."""
    groups, report = read(path)
    assert not report.bad
    return Counter((group.prompt.text, *(c.image for c in group.candidates)) for group in groups)


@pytest.mark.parametrize("to", sorted(TARGETS))
def test_what_was_written_reads_back_as_the_same_pairs(tmp_path: Path, to: str) -> None:
    data = written(tmp_path / "data", groups_of(30))
    counts, report = convert_pairs(locate(str(data)), tmp_path / "out", to=to, seed=0)
    assert counts["pairs"] == report.counts["pairs"] == 30
    places = [tmp_path / "out" / split for split in ("train", "test")] if to == "folders" else [tmp_path / "out"]
    back: Counter[tuple[str, bytes, bytes]] = sum((pairs_at(place) for place in places), Counter())
    assert back == pairs_at(data)


@pytest.mark.parametrize("to", ["pairs", "jsonl", "pick_a_pic"])
def test_splits_stay_with_their_pairs(tmp_path: Path, to: str) -> None:
    data = written(tmp_path / "data", groups_of(12))
    convert_pairs(locate(str(data)), tmp_path / "out", to=to, seed=0)
    sides = {group.candidates[0].image: group.prompt.split for group in read(data)[0]}
    assert {group.candidates[0].image: group.prompt.split for group in read(tmp_path / "out")[0]} == sides


@pytest.mark.parametrize("to", ["pairs", "jsonl"])
def test_ids_keys_scores_and_provenance_are_kept_where_there_is_a_place(tmp_path: Path, to: str) -> None:
    data = written(tmp_path / "data", groups_of(7))
    convert_pairs(locate(str(data)), tmp_path / "out", to=to, seed=0)
    for before, after in zip(read(data)[0], read(tmp_path / "out")[0], strict=True):
        assert (after.id, after.prompt, after.scores) == (before.id, before.prompt, before.scores)
        assert [dict(c.provenance) for c in after.candidates] == [dict(c.provenance) for c in before.candidates]


def test_there_and_back_is_the_same_shard(tmp_path: Path) -> None:
    data = written(tmp_path / "data", groups_of(9, scores=False))
    convert_pairs(locate(str(data)), tmp_path / "jsonl", to="jsonl", seed=0)
    convert_pairs(locate(str(tmp_path / "jsonl")), tmp_path / "back", to="pairs", seed=0)
    assert [row for _, row in read_rows(tmp_path / "back")] == [row for _, row in read_rows(data)]


def test_pick_a_pic_has_the_published_columns_and_either_side_wins(tmp_path: Path) -> None:
    data = written(tmp_path / "data", groups_of(60, splits=("",)))
    convert_pairs(locate(str(data)), tmp_path / "out", to="pick_a_pic", seed=0)
    table = pq.read_table(tmp_path / "out" / "shard-00000.parquet")
    assert table.schema.remove_metadata() == PICK_A_PIC_SCHEMA
    rows = table.to_pylist()
    assert all(row["label_0"] + row["label_1"] == 1 for row in rows)
    assert 18 <= sum(row["label_0"] for row in rows) <= 42
    best = [row["image_0_uid"] if row["label_0"] else row["image_1_uid"] for row in rows]
    assert best == [row["best_image_uid"] for row in rows]
    assert {row["num_example_per_prompt"] for row in rows} == {10}
    assert all(row["model_0"] == ("m0" if row["label_0"] else "m1") for row in rows)


def test_sides_depend_on_the_seed_and_the_pair_alone(tmp_path: Path) -> None:
    groups = groups_of(40)
    labels = {}
    for name, seed, some in (("a", 0, groups), ("b", 0, groups[::-1]), ("c", 1, groups)):
        convert_pairs(locate(str(written(tmp_path / name, some))), tmp_path / f"{name}2", to="pick_a_pic", seed=seed)
        labels[name] = {row["best_image_uid"]: row["label_0"] for _, row in read_rows(tmp_path / f"{name}2")}
    assert labels["a"] == labels["b"]
    assert labels["a"] != labels["c"]


def test_folders_look_as_other_trainers_expect(tmp_path: Path) -> None:
    data = written(tmp_path / "data", groups_of(2, splits=("train",)))
    counts, _ = convert_pairs(locate(str(data)), tmp_path / "out", to="folders", seed=0)
    names = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*"))
    first = ["00000000.png", "00000000.txt", "00000001.png", "00000001.txt"]
    last = ["00000000.png", "00000000.txt", "00000001.jpg", "00000001.txt"]
    assert names == [*(f"l/{name}" for name in last), *(f"w/{name}" for name in first)]
    assert (tmp_path / "out" / "w" / "00000000.txt").read_text() == "a red cat"
    said = "\n".join(convert_lines(counts, "folders"))
    assert "scores of 2 pairs, keys of 2 pairs, provenance of 2 pairs" in said


def test_file_names_never_come_from_the_data(tmp_path: Path) -> None:
    groups = groups_of(6, splits=("../../up", "a/b"))
    data = written(tmp_path / "data", groups)
    for to in ("folders", "jsonl"):
        convert_pairs(locate(str(data)), tmp_path / "o" / to, to=to, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "o"]
    assert sorted(path.name for path in (tmp_path / "o" / "folders").iterdir()) == ["______up", "a_b"]
    lines = [json.loads(line) for line in (tmp_path / "o" / "jsonl" / "pairs.jsonl").read_text().splitlines()]
    paths = [line[side] for line in lines for side in ("chosen", "rejected")]
    assert all(path.startswith("images/") and ".." not in path for path in paths)


def test_splits_that_look_alike_stay_apart(tmp_path: Path) -> None:
    data = written(tmp_path / "data", groups_of(8, splits=("a/b", "a_b", "A_B", "w")))
    convert_pairs(locate(str(data)), tmp_path / "out", to="folders", seed=0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A_B_3", "a_b", "a_b_2", "w"]
    convert_pairs(
        locate(str(written(tmp_path / "one", groups_of(3, splits=("w",))))), tmp_path / "o", to="folders", seed=0
    )
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["l", "w"]
    assert len(pairs_at(tmp_path / "o")) == 3


def test_dropped_rows_are_counted_and_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "GIF")
    groups = groups_of(4, splits=("",))
    broken = Group("b", Prompt("x"), [Candidate(b"no image"), groups[0].candidates[0]])
    gif = Group("c", Prompt("x"), [Candidate(buffer.getvalue()), groups[0].candidates[0]])
    data = written(tmp_path / "data", [*groups, broken, gif])
    counts, report = convert_pairs(locate(str(data)), tmp_path / "out", to="folders", seed=0)
    assert (counts["pairs"], report.counts["pairs"], report.counts["bad"]) == (4, 4, 2)
    assert "row 4, chosen: not an image file" in report.bad[0]
    assert "row 5: the chosen image is a .gif file" in report.bad[1]
    assert len(pairs_at(tmp_path / "out")) == 4


def test_nothing_to_write_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    broken = Group("b", Prompt("x"), [Candidate(b"no image"), Candidate(b"none either")])
    data = written(tmp_path / "data", [broken])
    with pytest.raises(ValueError, match=r"no pair was written, of 1 rows; .*row 0, chosen: not an image file"):
        convert_pairs(locate(str(data)), tmp_path / "out", to="jsonl", seed=0)
    with pytest.raises(ValueError, match="did you mean 'folders'"):
        convert_pairs(locate(str(data)), tmp_path / "out", to="folder", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_rewards_that_come_late_are_in_every_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_PER_SHARD", 3)
    groups = groups_of(8, scores=False)
    late = Group(groups[7].id, groups[7].prompt, groups[7].candidates, scores={"late": [1.0, 0.5]}, rank=[1, 2])
    a, b = tmp_path / "data", tmp_path / "data2"
    written(a, groups[:7])
    write_shard(a, 1, [pair_row(late)], pair_schema(["late"]))
    convert_pairs(locate(str(a)), b, to="pairs", seed=0)
    files = sorted(b.glob("*.parquet"))
    assert len(files) == 3
    assert len({pq.read_schema(file).remove_metadata() for file in files}) == 1
    back = read(b)[0]
    assert [group.scores for group in back] == [{}] * 7 + [{"late": [1.0, 0.5]}]
    assert [group.id for group in back] == [group.id for group in groups]
