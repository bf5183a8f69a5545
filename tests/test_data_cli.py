"""`mmpo data ...` from the command line: what is said, what comes next, and what is refused without a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import Main, assert_refused
from pair_files import PICK_A_PIC, read, write, write_sides

from mmpo.recipe_files import dump, load_recipe, validate

main = command_line.main

COMMANDS = {
    "inspect": ["--output"],
    "stats": ["--json"],
    "split": [],
    "convert": ["--to", "jsonl"],
}


def call(main: Main, command: str, path: object, out: Path, *more: object) -> command_line.Result:
    """A command with its output where it takes it."""
    options = COMMANDS[command]
    if command in ("inspect", "stats"):
        return main("data", command, path, *options, out, *more)
    return main("data", command, path, out, *options, *more)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_ends_with_what_to_run_next_and_names_bad_rows(tmp_path: Path, main: Main, command: str) -> None:
    words = ("one", "two", "three", "four")
    rows = [{**PICK_A_PIC, "caption": f"{word} {n}"} for n, word in enumerate(words * 2)]
    rows = [{**row, "jpg_0": tiny.picture(2 * n), "jpg_1": tiny.picture(2 * n + 1)} for n, row in enumerate(rows)]
    rows += [{**PICK_A_PIC, "caption": ""}, {**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}]
    result = call(main, command, write(tmp_path / "d", rows), tmp_path / "out")
    assert result.code == 0, result
    lines = result.out.strip().splitlines()
    assert lines[-1].startswith("next: mmpo ")
    assert "left out, ties: 1 (nobody preferred one side)" in lines
    assert "left out, bad rows: 1" in lines
    assert any("row 8: column 'caption' is empty" in line for line in lines)
    assert f"written: {tmp_path / 'out'}" in result.out
    assert (tmp_path / "out").exists()


def test_the_commands_follow_each_other(tmp_path: Path, main: Main, pairs_folder: Path) -> None:
    """What each says comes next is run as it stands."""
    said = main("data", "inspect", pairs_folder, "--output", tmp_path / "page.html").out.splitlines()[-1]
    assert said == f"next: mmpo data stats {pairs_folder}"
    said = main(*said.split()[2:]).out.splitlines()[-1]
    assert said == f"next: mmpo data split {pairs_folder} OUTPUT"
    result = main(*said.split()[2:-1], tmp_path / "split", "--similarity", "1")
    assert result.out.splitlines()[-1] == f"next: mmpo train RECIPE data.path={tmp_path / 'split'}"
    said = main("data", "stats", tmp_path / "split").out.splitlines()[-1]
    assert said == f"next: mmpo train RECIPE data.path={tmp_path / 'split'} --dry-run"
    said = main("data", "convert", tmp_path / "split", tmp_path / "w_l", "--to", "folders").out.splitlines()[-1]
    assert said == f"next: mmpo data inspect {tmp_path / 'w_l'}"
    assert main(*said.split()[2:], "--output", tmp_path / "page2.html").code == 0


def test_the_next_line_has_the_options_that_were_given(tmp_path: Path, main: Main) -> None:
    """Each is run as it stands; what was written needs none of them."""
    for n in range(6):
        for k, side in enumerate(("good ones", "poor")):
            file = tmp_path / "upper" / side / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tiny.picture(2 * n + k))
        (tmp_path / "upper" / f"{n}.txt").write_text(f"word{n} other{n}")
    chosen, rejected = tmp_path / "upper" / "good ones", tmp_path / "upper" / "poor"
    said = main("data", "inspect", chosen, "--rejected", rejected, "--output", tmp_path / "p.html", "--resolution", 16)
    words = shlex.split(said.out.splitlines()[-1])
    assert words[1:] == ["mmpo", "data", "stats", str(chosen), "--rejected", str(rejected), "--resolution", "16"]
    words = shlex.split(main(*words[2:]).out.splitlines()[-1])
    assert words[1:] == ["mmpo", "data", "split", str(chosen), "OUTPUT", "--rejected", str(rejected)]
    result = main(*(tmp_path / "out" if word == "OUTPUT" else word for word in words[2:]))
    assert result.out.splitlines()[-1] == f"next: mmpo train RECIPE data.path={tmp_path / 'out'}"


def test_renames_go_into_the_next_line_of_every_kind(tmp_path: Path, main: Main, sd_folder: Path) -> None:
    rows = [
        {"its text": f"p{n}", "win": tiny.picture(2 * n), "lose": tiny.picture(2 * n + 1), "split": "test"}
        for n in range(6)
    ]
    data = write(tmp_path / "d", rows, "test")
    names = ["--columns", "prompt=its text", "--columns", "chosen=win", "--columns", "rejected=lose"]
    reading = ["--format", "pairs", "--split", "test"]
    said = main("data", "inspect", data, *names, *reading, "--output", tmp_path / "p.html").out.splitlines()[-1]
    assert shlex.split(said)[1:] == ["mmpo", "data", "stats", str(data), *reading, *names]
    words = shlex.split(main(*shlex.split(said)[2:]).out.splitlines()[-1])
    assert words[1:4] == ["mmpo", "train", "RECIPE"]
    data_section = load_recipe(None, ["model.path=x", "output=y", *words[4:-1]]).data
    assert (data_section.path, data_section.format, data_section.split) == (str(data), "pairs", "test")
    assert data_section.columns == {"prompt": "its text", "chosen": "win", "rejected": "lose"}
    file = tmp_path / "mine.yaml"
    file.write_text(
        dump(validate(tiny.recipe_tree(sd_folder, data, tmp_path / "run", data__columns=data_section.columns)))
    )
    words = shlex.split(main("data", "split", file, tmp_path / "out", "--similarity", "1").out.splitlines()[-1])
    after = load_recipe(str(file), words[4:]).data
    assert (after.path, after.columns, after.rejected) == (str(tmp_path / "out"), {}, None)


def test_figures_of_no_pair_are_an_error_that_says_what_to_mend(tmp_path: Path, main: Main) -> None:
    data = write(tmp_path / "d", [{**PICK_A_PIC, "jpg_0": b"none"}] * 3)
    result = main("data", "stats", data, "--json", tmp_path / "s.json")
    assert result.code == 2
    assert "row 2, chosen: not an image file" in result.out
    assert "next:" not in result.out
    assert "no pair can be read from 3 rows (3 bad); mend the rows named above" in result.err
    assert not (tmp_path / "s.json").exists()
    tie = {**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}
    result = main("data", "stats", write(tmp_path / "e", [tie]))
    assert "(1 ties); no row prefers one side" in result.err


@pytest.mark.parametrize("command", ["stats", "split", "convert"])
def test_a_bad_image_is_named_by_its_side_or_its_own_file(tmp_path: Path, main: Main, command: str) -> None:
    rows = [
        {"prompt": f"word{n} other{n}", "chosen": tiny.picture(n), "rejected": tiny.picture(50 + n)} for n in range(6)
    ]
    data = write(tmp_path / "d", [*rows, {**rows[0], "rejected": b"nothing"}])
    result = call(main, command, data, tmp_path / "out")
    assert result.code == 0, result
    assert "row 6, rejected: not an image file (7 bytes)" in result.out
    folder = write_sides(tmp_path / "f", {"bad": "x"})
    for n, row in enumerate(rows):
        for name, side in (("w", "chosen"), ("l", "rejected")):
            (folder / name / f"{n}.png").write_bytes(bytes(row[side]))
        (folder / "w" / f"{n}.txt").write_text(str(row["prompt"]))
    (folder / "l" / "bad.png").write_bytes(b"nothing")
    result = call(main, command, folder, tmp_path / "out2")
    assert result.code == 0, result
    assert f"  {folder / 'l' / 'bad.png'} (rejected): not an image file (7 bytes)" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_that_is_left_out_is_said(tmp_path: Path, main: Main, command: str) -> None:
    folder = tmp_path / "f"
    for n in range(6):
        for k, side in enumerate(("w", "l")):
            (folder / side).mkdir(parents=True, exist_ok=True)
            (folder / side / f"{n}.png").write_bytes(tiny.picture(2 * n + k))
        (folder / "w" / f"{n}.txt").write_text(f"word{n} other{n}")
    (folder / "notes.csv").write_text("name,remark\n1,good\n")
    result = call(main, command, folder, tmp_path / "out")
    assert result.code == 0, result
    assert result.out.count("notes.csv in") == 1


def test_folders_by_split_are_read_back_whole(tmp_path: Path, main: Main, pairs_folder: Path) -> None:
    main("data", "split", pairs_folder, tmp_path / "split", "--similarity", "1", "--tune", "0.1")
    said = main("data", "convert", tmp_path / "split", tmp_path / "w_l", "--to", "folders").out.splitlines()[-1]
    assert shlex.split(said)[1:] == ["mmpo", "data", "inspect", str(tmp_path / "w_l")]
    before, after = read(tmp_path / "split")[0], read(tmp_path / "w_l")[0]
    sides = [{(one.prompt.text, one.prompt.split, one.candidates[0].image) for one in some} for some in (before, after)]
    assert sides[0] == sides[1]
    assert {split for _, split, _ in sides[0]} == {"train", "tune", "test"}


def test_a_recipe_stands_for_its_data_and_model(
    tmp_path: Path, main: Main, sd_folder: Path, pairs_folder: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump(validate(tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run"))))
    result = main("data", "inspect", file, "--rows", 3, "--output", tmp_path / "page.html")
    assert result.code == 0, result
    assert "3 shown at 16×16" in result.out
    page = (tmp_path / "page.html").read_text()
    assert "tokens of at most 22" in page
    result = main("data", "stats", file, "--json", tmp_path / "s.json")
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["resolution"], found["caption_tokens"]["tokenizer"]["limit"]) == (16, 22)
    assert result.out.splitlines()[-1] == f"next: mmpo train {file} --dry-run"


def test_a_recipe_whose_model_is_not_here_still_shows_the_data(tmp_path: Path, main: Main, pairs_folder: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump(validate(tiny.recipe_tree(Path("some/checkpoint"), pairs_folder, tmp_path / "run"))))
    result = main("data", "inspect", file, "--output", tmp_path / "page.html")
    assert result.code == 0
    assert "captions are not held against the model's limit" in result.out
    assert "some/checkpoint does not say its resolution; shown at 512" in result.out
    refused = main("data", "inspect", pairs_folder, "--model", "some/checkpoint", "--output", tmp_path / "page.html")
    assert_refused(refused, "--model some/checkpoint")


@pytest.mark.parametrize("command", ["split", "convert"])
def test_output_is_never_written_over(tmp_path: Path, main: Main, pairs_folder: Path, command: str) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    assert_refused(call(main, command, pairs_folder, full), "holds something already")
    assert_refused(call(main, command, pairs_folder, pairs_folder / "in"), "is or lies inside")
    assert_refused(call(main, command, pairs_folder, full / "precious"), "is a file")
    assert (full / "precious").read_text() == "x"
    assert not list(tmp_path.glob(".*"))
    assert len(read(pairs_folder)[0]) == 24


def test_pages_and_figures_do_not_overwrite_the_data(tmp_path: Path, main: Main) -> None:
    file = write(tmp_path / "d", [PICK_A_PIC]) / "a.parquet"
    before = file.read_bytes()
    assert_refused(main("data", "inspect", file, "--output", file), "give a file elsewhere")
    assert_refused(main("data", "stats", file.parent, "--json", file.parent / "s.json"), "give a file elsewhere")
    assert file.read_bytes() == before
    assert main("data", "inspect", file.parent, "--output", file.parent / "page.html").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_faults_of_the_user_are_one_message(tmp_path: Path, main: Main, command: str) -> None:
    out = tmp_path / "out"
    assert_refused(call(main, command, tmp_path / "none", out), "no such file or folder")
    assert_refused(call(main, command, "shapes_difusion_dpo", out), "did you mean 'shapes_diffusion_dpo'")
    assert_refused(call(main, command, tmp_path, out, "--columns", "x"), "expected OURS=THEIRS")
    assert not out.exists()


def test_renamed_columns_and_a_limit(tmp_path: Path, main: Main) -> None:
    rows = [{"text": f"p{n}", "a": tiny.picture(2 * n), "b": tiny.picture(2 * n + 1)} for n in range(6)]
    data = write(tmp_path / "d", rows)
    names = [part for pair in ("prompt=text", "chosen=b", "rejected=a") for part in ("--columns", pair)]
    assert call(main, "convert", data, tmp_path / "out", *names, "--limit", 4).code == 0
    assert [group.candidates[0].image for group in read(tmp_path / "out")[0]] == [
        tiny.picture(2 * n + 1) for n in range(4)
    ]


def test_help_is_light() -> None:
    program = (
        "import sys, pipelines.data_cli\nprint({'torch', 'numpy', 'datasets', 'PIL', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
