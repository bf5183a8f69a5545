"""`mmpo data pair`: labels to pairs that `mmpo train` reads, and what was left out, counted."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import command_line
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from command_line import Main, assert_refused
from label_files import label_with, samples
from PIL import Image

from mmpo.data.readers import ReadReport, read_pairs
from mmpo.data.shards import read_done, read_rows
from mmpo.recipe_files import load_recipe
from mmpo.records import bytes_hash

main = command_line.main

PICTURES = {
    prompt: [tiny.picture(10 * at + k) for k in range(4)] for at, prompt in enumerate(("a cat", "a dog", "a hat"))
}
CLIP = {0: 1.0, 1: 3.0, 2: 2.0, 3: 0.0}
HPS = {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.0}


def jpeg(png: bytes) -> bytes:
    """The same picture as a JPEG."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return samples(tmp_path / "samples", PICTURES)


@pytest.fixture
def labels(data: Path, tmp_path: Path) -> Path:
    """The second group ties by "clip" but for one failure; the third is scored by "hps" alone."""

    def clip(c: Any) -> float | None:
        return {"a cat": CLIP[c.number], "a dog": 7.0 if c.number else None, "a hat": None}[c.prompt]

    return label_with(data, tmp_path / "labels", {"clip": clip, "hps": lambda c: HPS[c.number]})


def pair(main: Main, data: Path, labels: Path, out: Path, *more: object) -> tuple[list[str], list[dict[str, Any]]]:
    """What was said, and the rows that were written."""
    result = main("data", "pair", data, "--labels", labels, "--output", out, *more)
    assert result.code == 0, result
    return result.out.strip().splitlines(), [row for _, row in read_rows(out)]


def test_pairs_of_one_reward_and_what_was_left_out(main: Main, data: Path, labels: Path, tmp_path: Path) -> None:
    said, rows = pair(main, data, labels, tmp_path / "out", "--reward", "clip")
    assert said == [
        "1 pairs of 2 that best_worst gives in 3 groups, ranked by score",
        "left out, ties: 1 (no difference)",
        "unscored: 5 of 12 candidates",
        "without a pair: 2 of 3 groups",
        f"written: {tmp_path / 'out'}",
        f"next: mmpo train RECIPE data.path={tmp_path / 'out'}",
    ]
    (row,) = rows
    images = PICTURES["a cat"]
    assert (row["chosen"]["bytes"], row["rejected"]["bytes"]) == (images[1], images[3])
    assert row["chosen_hash"] == bytes_hash(images[1])
    assert (row["prompt"], row["key"], row["split"]) == ("a cat", "key of a cat", "train")
    assert row["scores"] == {"clip": [3, 0], "hps": [pytest.approx(0.2), 0]}, "every reward's, also one not ranked by"
    assert json.loads(row["provenance"]) == [{"seed": 1}, {"seed": 3}]
    assert (row["agreement"], row["gap"]) == (1, 3)
    done = read_done(tmp_path / "out")
    assert done is not None
    assert done["settings"] | {"by": "score", "rewards": ["clip"], "select": "best_worst"} == done["settings"]
    assert done["summary"] | {"written": 1, "ties": 1, "unscored": 5, "without a pair": 2} == done["summary"]


def test_win_rates_are_the_default_of_several(main: Main, data: Path, labels: Path, tmp_path: Path) -> None:
    """Of the cats by clip 1 > 2 > 0 > 3, by hps 2 > 1 > 0 > 3: the first two tie. Of the others hps decides."""
    said, rows = pair(main, data, labels, tmp_path / "out", "--select", "all")
    assert said[0] == "17 pairs of 18 that all gives in 3 groups, ranked by win_rate"
    assert "left out, ties: 1 (no difference)" in said
    assert "clip and hps agree on 83% of the pairs that both decide" in said  # 5 of the cats' 6
    cats = [(row["chosen"]["bytes"], row["rejected"]["bytes"]) for row in rows if row["prompt"] == "a cat"]
    order = {image: k for k, image in enumerate(PICTURES["a cat"])}
    assert {(order[a], order[b]) for a, b in cats} == {(1, 0), (2, 0), (1, 3), (2, 3), (0, 3)}


@pytest.mark.parametrize(
    ("options", "left", "reason"),
    [
        (["--margin", "1"], 3, "left out, margin: 3 (within the margin of 1)"),
        (["--floor", "hps=0.2"], 5, "left out, floor: 1 (the better one is below the floor)"),
        (["--max-pairs", "2"], 2, "left out, limit: 4 (more than asked for of one group)"),
        (["--agreement", "1"], 6, ""),
    ],
)
def test_filters_are_counted(
    main: Main, data: Path, labels: Path, tmp_path: Path, options: list[str], left: int, reason: str
) -> None:
    said, rows = pair(main, data, labels, tmp_path / "out", "--reward", "clip", "--select", "all", *options)
    assert len(rows) == left
    assert not reason or reason in said


def test_agreement_counts_the_rewards_that_were_asked(main: Main, data: Path, labels: Path, tmp_path: Path) -> None:
    options = ("--select", "all", "--by", "win_rate", "--reward", "clip=2", "--reward", "hps")
    _, loose = pair(main, data, labels, tmp_path / "loose", *options)
    said, rows = pair(main, data, labels, tmp_path / "out", *options, "--agreement", "0.7")
    assert min(row["agreement"] for row in rows) >= 0.7 > min(row["agreement"] for row in loose)
    assert any(line.startswith("left out, agreement: ") for line in said)
    twos = [row["agreement"] for row in loose if row["prompt"] == "a cat" and row["agreement"] < 1]
    assert twos == [pytest.approx(2 / 3)], "clip weighs 2 of 3, and prefers 1 to 2"


def test_nearly_the_same_pictures_are_no_pair(main: Main, tmp_path: Path) -> None:
    first, other = tiny.picture(1, 64), tiny.picture(2, 64)
    data = samples(tmp_path / "data", {"a cat": [first, jpeg(first), other]})
    labels = label_with(data, tmp_path / "labels", {"clip": lambda c: float(c.number)})
    said, rows = pair(main, data, labels, tmp_path / "out", "--select", "all")
    assert "left out, near duplicates: 1 (nearly the same picture; --keep-near-duplicates keeps them)" in said
    assert said[0].startswith("2 pairs of 3 ")
    assert {row["chosen_hash"] for row in rows} == {bytes_hash(other)}
    kept, rows = pair(main, data, labels, tmp_path / "kept", "--select", "all", "--keep-near-duplicates")
    assert len(rows) == 3
    assert kept[0].startswith("3 pairs of 3 ")


@pytest.mark.parametrize("by", ["zscore", "bradley_terry", "expected_win", "pareto"])
@pytest.mark.parametrize("select", ["best_worst", "layers", "random"])
def test_every_rule_makes_pairs_that_can_be_read(
    main: Main, data: Path, labels: Path, tmp_path: Path, by: str, select: str
) -> None:
    scales = ["--scale", "clip=1", "--scale", "hps=100"] if by == "expected_win" else []
    _, rows = pair(main, data, labels, tmp_path / "out", "--by", by, "--select", select, *scales)
    assert rows
    assert all(row["gap"] > 0 for row in rows)
    report = ReadReport()
    groups = list(read_pairs(str(tmp_path / "out"), report=report))
    assert len(groups) == len(rows)
    assert not report.bad
    assert set(groups[0].scores) == {"clip", "hps"}


def test_a_dry_run_counts_without_the_data(main: Main, labels: Path, tmp_path: Path) -> None:
    result = main("data", "pair", tmp_path / "gone", "--labels", labels, "--reward", "clip", "--dry-run")
    assert result.code == 0, result
    assert "1 pairs of 2 that best_worst gives in 3 groups, ranked by score" in result.out
    statistics = tmp_path / "statistics.json"
    main("data", "pair", tmp_path / "gone", "--labels", labels, "--dry-run", "--write-statistics", statistics)
    found = json.loads(statistics.read_text())
    assert found["clip"] == {
        "mean": pytest.approx(27 / 7),
        "scored": 7,
        "std": pytest.approx((23 - (27 / 7) ** 2) ** 0.5),
    }
    assert found["hps"]["mean"] == pytest.approx(0.15)


def test_the_next_command_is_a_valid_recipe(main: Main, data: Path, labels: Path, tmp_path: Path) -> None:
    """That it reads the pairs is tested above; a recipe stands in the place of RECIPE."""
    said, _ = pair(main, data, labels, tmp_path / "out", "--by", "win_rate")
    words = shlex.split(said[-1])
    assert words[:4] == ["next:", "mmpo", "train", "RECIPE"]
    assert load_recipe("diffusion_dpo", words[4:]).data.path == str(tmp_path / "out")


def test_from_the_labelling_engine_by_what_it_says_comes_next(main: Main, data: Path, tmp_path: Path) -> None:
    rewards = ("--reward", "random", "--reward", "random,seed=1,as=other")
    said = main("label", data, *rewards, "--output", tmp_path / "labels").out.strip().splitlines()[-1]
    words = [str(tmp_path / "out") if word == "PAIRS" else word for word in shlex.split(said)[2:]]
    result = main(*words)
    assert result.code == 0, result
    rows = [row for _, row in read_rows(tmp_path / "out")]
    assert rows
    assert set(rows[0]["scores"]) == {"random", "other"}


def test_labels_of_a_part_of_the_data(main: Main, data: Path, tmp_path: Path) -> None:
    labels = label_with(data, tmp_path / "labels", {"clip": lambda c: CLIP[c.number]}, limit=5)
    said, rows = pair(main, data, labels, tmp_path / "out")
    assert len(rows) == 2
    assert "2 pairs of 2 that best_worst gives in 2 groups" in said[0]


def test_answers_are_paired_too(main: Main, tmp_path: Path) -> None:
    row = {"question": "what is it?", "image": {"bytes": tiny.picture(1), "path": None}}
    rows = [{**row, "responses": ["a cat", "a dog", "a  cat"]}]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "a.parquet")
    labels = label_with(tmp_path / "data", tmp_path / "labels", {"judge": lambda c: [2.0, 1.0, 3.0][c.number]})
    said, pairs = pair(main, tmp_path / "data", labels, tmp_path / "out", "--select", "all")
    assert "left out, same image: 1 (the same image, or answer, on both sides)" in said
    assert [(p["prompt"], p["chosen"], p["rejected"]) for p in pairs] == [
        ("what is it?", "a  cat", "a dog"),
        ("what is it?", "a cat", "a dog"),
    ]
    assert pairs[0]["images"][0]["bytes"] == tiny.picture(1)
    assert "method.adapter=autoregressive" in said[-1]


def test_what_cannot_be_done_is_refused(main: Main, data: Path, labels: Path, tmp_path: Path) -> None:
    def call(*more: object) -> command_line.Result:
        return main("data", "pair", data, "--labels", labels, "--output", tmp_path / "out", *more)

    assert_refused(call("--reward", "clop"), "--reward: unknown name 'clop'; did you mean 'clip'?")
    assert_refused(call("--reward", "clip=x"), "--reward clip=x: expected COLUMN=NUMBER")
    assert_refused(call("--reward", "clip", "--reward", "clip=2"), "given before")
    assert_refused(call("--floor", "clip"), "--floor clip: expected COLUMN=NUMBER")
    assert_refused(call("--by", "score"), "--by score ranks by one reward, and there are 2")
    assert_refused(call("--by", "wins"), "--by: unknown name 'wins'; did you mean 'win_rate'?")
    assert_refused(call("--by", "pareto", "--reward", "clip=2", "--reward", "hps"), "takes no weights")
    assert_refused(call("--by", "expected_win"), "--scale clip=X")
    assert_refused(call("--select", "best"), "--select: unknown name 'best'; did you mean 'best_worst'?")
    assert_refused(call("--select", "layers", "--reward", "hps"), "--select layers weighs rewards")
    assert_refused(call("--margin", "-1"), "--margin: expected a number of at least 0")
    assert_refused(call("--margin", "nan"), "--margin: expected a number of at least 0")
    assert_refused(call("--agreement", "60"), "--agreement: expected a share from 0 to 1")
    assert_refused(call("--margin", "100"), "nothing is left to write", "left out, margin: ")
    assert_refused(main("data", "pair", data, "--labels", tmp_path, "--output", tmp_path / "o"), "no labels")
    assert_refused(main("data", "pair", data, "--labels", labels), "--output: name a new folder")
    other = samples(tmp_path / "other", {"a cat": PICTURES["a dog"]})
    refused = main("data", "pair", other, "--labels", labels, "--output", tmp_path / "out")
    assert_refused(refused, "the data set changed after it was labelled", "row 0")
    assert not (tmp_path / "out").exists()
