"""The labelling engine: shards, resuming, rewards added later, rows and rewards that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_data import Counting, everything, jpeg, label_data, make_shapes, rows_of, scores_of
from pair_files import write
from PIL import Image

import rewards
from mmpo.data.images import decode
from mmpo.data.labels import read_joined, read_marker
from mmpo.records import bytes_hash, content_id
from pipelines import label_stages
from pipelines.label_scoring import PATIENCE
from pipelines.label_spec import parse_specs
from pipelines.label_summary import summary_lines


def test_labels_are_the_rewards_own_scores_in_the_datas_order(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data")
    marker = label_data(data, tmp_path / "labels", "shapes", "random,seed=3,as=noise", batch_size=5)
    assert marker is not None
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    images = [(data.parent / line["image"]).read_bytes() for line in lines]
    rows, prompts = rows_of(tmp_path / "labels"), [line["prompt"] for line in lines]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["image_hash"] for row in rows] == [bytes_hash(image) for image in images]
    assert rows[1]["key"] == content_id(rows[1]["image_hash"], rows[1]["prompt"], None)
    assert [row["number"] for row in rows] == [0, 1, 2] * 8
    pictures = [decode(image) for image in images]
    for column, reward in (("shapes", rewards.load("shapes")), ("noise", rewards.load("random", seed=3))):
        wanted = reward.score(pictures, prompts)
        assert [row["score"] for row in scores_of(tmp_path / "labels", column)] == wanted.values.tolist()
    assert "part_soft" in scores_of(tmp_path / "labels", "shapes")[0]
    shards = list(read_joined(tmp_path / "labels", ["noise"]))
    assert [len(shard) for shard in shards] == [9, 9, 6], "a shard of 8 rows ends with its group"
    assert (marker["rows"], marker["groups"], marker["columns"]["shapes"]["scored"]) == (24, 8, 24)


def test_a_reward_added_later_scores_alone_and_nothing_is_rewritten(tmp_path: Path) -> None:
    data, first, second = make_shapes(tmp_path / "data"), Counting(), Counting()
    label_data(data, tmp_path / "labels", "random", loaded={"random": first})
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "labels").rglob("*.parquet")}
    loaded = {"random": first, "shapes": second}
    label_data(data, tmp_path / "labels", "random", "shapes", loaded=loaded)
    assert (first.rows, second.rows) == (24, 24)
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    (tmp_path / "labels" / "scores" / "shapes" / "shard-00001.parquet").unlink()
    label_data(data, tmp_path / "labels", "random", "shapes", loaded=loaded)
    assert (first.rows, second.rows) == (24, 24 + 9), "one shard of 9 rows was missing"
    marker = read_marker(tmp_path / "labels")
    assert marker is not None
    assert [*marker["columns"]] == ["random", "shapes"]


def test_an_image_is_decoded_once_and_equal_views_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counted(image: bytes) -> Image.Image:
        decoded.append(len(image))
        return decode(image)

    monkeypatch.setattr(label_stages, "decode", counted)
    data, first, second = make_shapes(tmp_path / "data"), Counting(), Counting()
    label_data(data, tmp_path / "labels", "random", "shapes", loaded={"random": first, "shapes": second})
    assert len(decoded) == 24
    assert first.views + second.views == 24


def test_answers_about_one_image_decode_it_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_bytes(jpeg())
    row = {"image": "a.jpg", "question": "what?", "responses": ["a cat", "a dog", "noise"]}
    (tmp_path / "data" / "data.jsonl").write_text(json.dumps(row))
    reward = Counting()
    label_data(tmp_path / "data" / "data.jsonl", tmp_path / "labels", "random", loaded={"random": reward})
    assert (reward.views, reward.rows) == (1, 3)
    assert [row["response"] for row in rows_of(tmp_path / "labels")] == ["a cat", "a dog", "noise"]
    with pytest.raises(ValueError, match=r"--reward aesthetic: scores images for a prompt, .* are text answers"):
        label_data(tmp_path / "data" / "data.jsonl", tmp_path / "other", "aesthetic")


def test_a_row_that_breaks_its_batch_is_found_and_the_others_are_scored(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", each=1)
    broken = [json.loads(line)["prompt"] for line in data.read_text().splitlines()][3]
    label_data(data, tmp_path / "labels", "random", loaded={"random": Counting(broken=[broken])})
    scores = scores_of(tmp_path / "labels", "random")
    assert [row["score"] is None for row in scores] == [number == 3 for number in range(8)]
    assert scores[3]["error"] == "KeyError: 'no such word'"
    with pytest.raises(ValueError, match=r"data.jsonl, line 4: random: KeyError"):
        label_data(
            data, tmp_path / "other", "random", loaded={"random": Counting(broken=[broken])}, strict=True, batch_size=8
        )


def test_out_of_memory_makes_batches_smaller_and_they_stay_so(tmp_path: Path) -> None:
    reward = Counting(most=2)
    label_data(make_shapes(tmp_path / "data"), tmp_path / "labels", "random", loaded={"random": reward}, batch_size=8)
    assert reward.rows == 24
    assert reward.sizes[:3] == [8, 4, 2]
    assert max(reward.sizes[3:]) == 2
    with pytest.raises(ValueError, match="could score none of 24 rows"):
        label_data(tmp_path / "data" / "data.jsonl", tmp_path / "other", "random", loaded={"random": Counting(most=0)})
    assert read_marker(tmp_path / "other") is None
    assert not (tmp_path / "other" / "scores" / "random").exists(), "nulls of a broken reward are not kept"


def test_a_reward_that_never_works_stops_early(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=PATIENCE * 2, each=1)
    prompts = [json.loads(line)["prompt"] for line in data.read_text().splitlines()]
    reward = Counting(broken=prompts)
    with pytest.raises(ValueError, match=f"none of the first {PATIENCE} rows.*no such word"):
        label_data(data, tmp_path / "labels", "random", loaded={"random": reward}, shard_rows=1024)
    assert not [*(tmp_path / "labels").rglob("*.parquet")]
    later = Counting(broken=prompts[10:])
    with pytest.raises(ValueError, match=f"none of the last {PATIENCE} rows"):
        label_data(data, tmp_path / "labels", "random", loaded={"random": later}, shard_rows=1024)


def test_other_weights_or_options_are_refused_under_one_name(tmp_path: Path) -> None:
    data, labels = make_shapes(tmp_path / "data", prompts=2), tmp_path / "labels"
    label_data(data, labels, "random", loaded={"random": Counting()})
    with pytest.raises(ValueError, match=r"otherwise: options \{\}, now \{'seed': 3\}; give --reward random,as=NAME"):
        label_data(data, labels, "random,seed=3", loaded={"random": Counting()})
    with pytest.raises(ValueError, match=r"column 'random' was scored otherwise: identity .*or --redo"):
        label_data(data, labels, "random", loaded={"random": Counting(identity="2")})
    label_data(data, labels, "pickscore,weights=a", loaded={"pickscore": Counting()})
    moved = Counting()
    label_data(data, labels, "pickscore,weights=b", loaded={"pickscore": moved})
    assert moved.rows == 0, "the same weights in another place are the same"
    again = Counting(identity="2")
    label_data(data, labels, "random", loaded={"random": again}, redo=True)
    assert again.rows == 6
    label_data(data, labels, "random,seed=3,as=other", loaded={"random": Counting()})
    marker = read_marker(labels)
    assert marker is not None
    assert [*marker["columns"]] == ["other", "pickscore", "random"]


def test_data_that_changed_are_not_mixed(tmp_path: Path) -> None:
    data, labels = make_shapes(tmp_path / "data"), tmp_path / "labels"
    label_data(data, labels, "random")
    lines = data.read_text().splitlines()
    data.write_text("\n".join(lines[:12]))
    with pytest.raises(ValueError, match="holds other candidates than the data now do"):
        label_data(data, labels, "shapes")
    data.write_text("\n".join(lines[:9]))
    with pytest.raises(ValueError, match="holds more candidates than the data now do"):
        label_data(data, labels, "shapes")
    with pytest.raises(ValueError, match="holds the labels of other data"):
        label_data(make_shapes(tmp_path / "more"), labels, "shapes")


def test_prompts_that_come_back_are_counted(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=3, each=1)
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [{"prompt": row["prompt"], "image": (data.parent / row["image"]).read_bytes()} for row in lines]
    write(tmp_path / "table", [*rows, rows[0], rows[1]])
    marker = label_data(tmp_path / "table", tmp_path / "labels", "random")
    assert marker is not None
    assert (marker["groups"], marker["returning"]) == (5, 2)
    assert "2 of them are of a prompt that had a group before" in "\n".join(summary_lines(marker, ["random"]))


def test_a_file_that_is_damaged_further_on_stops_with_its_name(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=200, each=1)
    images = [{"prompt": row, "image": (data.parent / "0-0.png").read_bytes()} for row in map(str, range(20))]
    write(tmp_path / "table", images, name="a")
    write(tmp_path / "table", images, name="b")
    file = tmp_path / "table" / "b.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"b.parquet: not a readable parquet file"):
        label_data(tmp_path / "table", tmp_path / "labels", "random")
    assert len(rows_of(tmp_path / "labels")) == 16, "shards before it are kept"


def test_rewards_on_the_command_line() -> None:
    (spec,) = parse_specs(["random, seed=3 ,as=x"], "images")
    assert (spec.name, spec.column, spec.options) == ("random", "x", {"seed": 3})
    clip, other = parse_specs(["pickscore,weights=7,batch_size=4,device=cpu", "pickscore,revision=1e5,as=b"], "images")
    assert clip.options == {"weights": "7", "batch_size": 4, "device": "cpu"}
    assert clip.telling == {"weights": "7"}
    assert other.options == {"revision": "1e5"}


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data")
    label_data(data, tmp_path / "whole", "shapes", "random")
    broken = [json.loads(line)["prompt"] for line in data.read_text().splitlines()][19]
    with pytest.raises(ValueError, match="line 19"):
        label_data(data, tmp_path / "half", "random", loaded={"random": Counting(broken=[broken])}, strict=True)
    (tmp_path / "half" / "scores" / "random" / "reward.json").unlink()
    for file in (tmp_path / "half" / "scores").rglob("*.parquet"):
        file.unlink()
    assert len(rows_of(tmp_path / "half")) == 18
    label_data(data, tmp_path / "half", "shapes", "random")
    assert everything(tmp_path / "half") == everything(tmp_path / "whole")
