"""`mmpo label`: what it says, what it refuses before anything heavy, and the bad rows it goes on over."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import command_line
import label_data
import pytest
from command_line import Main, assert_refused, environment
from label_data import jpeg, make_shapes, rows_of, scores_of
from PIL import Image

from mmpo.data.labels import read_marker

main = command_line.main
clip_folder = label_data.clip_folder


def bomb(side: int = 20_000) -> bytes:
    """A PNG of that many pixels a side: a few kilobytes of file, a gigabyte of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bad_inputs(folder: Path) -> dict[int, str]:
    """Writes good rows and one of each kind of bad row; by line what its error must say."""
    folder.mkdir()
    (folder.parent / "outside.jpg").write_bytes(jpeg())
    inks = io.BytesIO()
    Image.new("CMYK", (32, 32), (0, 200, 200, 0)).save(inks, "JPEG")
    files = {
        "good.jpg": jpeg(),
        "cut.jpg": jpeg()[:700],
        "empty.jpg": b"",
        "bomb.png": bomb(),
        "inks.jpg": inks.getvalue(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    rows: list[tuple[dict[str, str], str]] = [
        ({"image": "good.jpg", "prompt": "a"}, ""),
        ({"image": "cut.jpg", "prompt": "b"}, "truncated"),
        ({"image": "empty.jpg", "prompt": "c"}, "empty (0 bytes)"),
        ({"image": "bomb.png", "prompt": "d"}, "too large"),
        ({"image": "inks.jpg", "prompt": "e"}, ""),
        ({"image": "good.jpg", "prompt": " "}, "'prompt' is empty"),
        ({"image": "good.jpg", "prompt": "word " * 2000}, ""),
        ({"image": "good.jpg", "prompt": "x" * 10_001}, "10,001 characters"),
        ({"image": "../outside.jpg", "prompt": "f"}, "leaves the folder"),
        ({"prompt": "g"}, "'image' is missing"),
        ({"image": "good.jpg"}, "'prompt'"),
        ({"image": "good.jpg", "prompt": "z"}, ""),
    ]
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row, _ in rows) + "\n")
    return {number: why for number, (_, why) in enumerate(rows, 1)}


def test_bad_rows_are_named_and_none_stops_the_run_or_scores_0(main: Main, tmp_path: Path, clip_folder: Path) -> None:
    wanted = bad_inputs(tmp_path / "data")
    reward = f"pickscore,weights={clip_folder}"
    result = main("label", tmp_path / "data", "--reward", reward, "--reward", "random", "--output", tmp_path / "labels")
    assert result.code == 0, result.err
    rows = {int(row["place"].rsplit(" ", 1)[1]): row for row in rows_of(tmp_path / "labels")}
    assert sorted(rows) == sorted(wanted)
    keys = {row["key"]: line for line, row in rows.items()}
    for column in ("pickscore", "random"):
        for score in scores_of(tmp_path / "labels", column):
            line = keys[score["key"]]
            if wanted[line]:
                assert wanted[line] in rows[line]["error"]
                assert wanted[line] in score["error"]
                assert score["score"] is None
                assert f"data.jsonl, line {line}: " in result.out
            else:
                assert rows[line]["error"] is None
                assert score["score"]
    marker = read_marker(tmp_path / "labels")
    assert marker is not None
    assert marker["unreadable"]["count"] == 8
    assert marker["columns"]["pickscore"]["notes"]["count"] == 1
    assert "4 scored, 8 not; 1 with a note, the first: " in result.out
    assert "cut to the 77" in result.out
    assert "8 rows that no reward can score; a score that is not there is null, never 0:" in result.out
    last = result.out.splitlines()[-1]
    assert last == f"next: mmpo data pair {tmp_path / 'data'} --labels {tmp_path / 'labels'} --output PAIRS"


def test_a_bad_row_stops_it_where_asked(main: Main, tmp_path: Path) -> None:
    bad_inputs(tmp_path / "data")
    arguments = ("label", tmp_path / "data", "--reward", "random", "--output", tmp_path / "labels")
    assert_refused(main(*arguments, "--on-bad-row", "error"), "data.jsonl, line 2: ", "truncated")
    assert read_marker(tmp_path / "labels") is None


def test_what_is_refused_before_anything_is_loaded(main: Main, tmp_path: Path) -> None:
    data, labels = make_shapes(tmp_path / "data", prompts=2), tmp_path / "labels"

    def refused(*arguments: object, parts: tuple[str, ...]) -> None:
        assert_refused(main("label", *arguments), *parts)

    end = ("--output", labels)
    refused(data, *end, parts=("--reward: name at least one; valid: ", "shapes"))
    refused(data, "-r", "shape", *end, parts=("unknown name 'shape'; did you mean 'shapes'?",))
    refused(data, "-r", "random,sede=3", *end, parts=("unknown option 'sede'; did you mean 'seed'?",))
    refused(data, "-r", "random,seed", *end, parts=("'seed' is no option",))
    refused(data, "-r", "random", "-r", "random,seed=1", *end, parts=("column 'random' is taken", ",as=NAME"))
    refused(data, "-r", "random,as=../x", *end, parts=("names a folder",))
    refused(data, "-r", "random", "--on-bad-row", "stop", *end, parts=("expected skip or error, got 'stop'",))
    refused(tmp_path / "no.jsonl", "-r", "random", *end, parts=("no.jsonl: no such file or folder",))
    refused(tmp_path / "data", "-r", "random", "-o", tmp_path / "data" / "x", parts=("lies inside", "beside it"))
    refused(data, "-r", "random", "--output", tmp_path / "data", parts=("lies inside",))
    refused(data, "-r", "random", "--output", data, parts=("is a file",))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    refused(data, "-r", "random", "-o", tmp_path / "other", parts=("holds something that is not labels",))
    assert main("label", data, "-r", "random", *end).code == 0
    refused(make_shapes(tmp_path / "d2", 2), "-r", "random", *end, parts=("holds the labels of other data (path",))
    refused(data, "-r", "random", "--limit", 2, *end, parts=("limit None, not 2",))
    (tmp_path / "bad.jsonl").write_text(json.dumps({"picture": "x.png", "words": "what?"}))
    refused(tmp_path / "bad.jsonl", "-r", "random", *end, parts=("found the columns picture, words", "--columns"))


def test_no_torch_before_the_input_is_valid(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=1)
    program = (
        "import sys\nfrom pipelines import cli\nsys.argv = ['mmpo', *sys.argv[1:]]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "label", str(data), "-r", "random", "-o", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == ["2", "False"], done.stderr


@pytest.mark.parametrize("kind", ["limit", "captions"])
def test_other_layouts_and_a_limit(kind: str, main: Main, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", prompts=3, each=2)
    more: list[object] = ["--limit", 3]
    if kind == "captions":
        for line in data.read_text().splitlines():
            row = json.loads(line)
            (data.parent / row["image"]).with_suffix(".txt").write_text(row["prompt"])
        data.unlink()
        data, more = data.parent, []
    result = main("label", data, "-r", "shapes", "--output", tmp_path / "labels", *more)
    assert result.code == 0, result.err
    assert len(rows_of(tmp_path / "labels")) == {"limit": 4, "captions": 6}[kind]
    assert scores_of(tmp_path / "labels", "shapes")[0]["score"] == 1.0
