"""`mmpo data ...` from the command line: what is said, what comes next, and what is refused without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import Main, assert_refused
from pair_files import PICK_A_PIC, read, write

from mmpo.recipe_files import dump, validate

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
    assert said == f"next: mmpo data inspect {tmp_path / 'w_l' / 'train'}"
    assert main(*said.split()[2:], "--output", tmp_path / "page2.html").code == 0


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
