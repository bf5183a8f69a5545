"""The command line in a process of its own or in this one, for its tests.

Real subprocesses prove what only they can (imports, exit codes, no traceback); where one would load torch for nothing
but a message, `main` is called in this process instead: it must end in SystemExit(2), so nothing else was raised.

A test file takes the fixtures that it needs by their names: `main = command_line.main`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny

from mmpo.recipe_files import dump, validate
from pipelines import cli, launch

MMPO = Path(sys.executable).with_name("mmpo")
RECIPE = "model: {path: some/checkpoint, lora: {rank: 4}}\ndata: {path: some/pairs}\noutput: runs/x\n"


class Result(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Main = Callable[..., Result]


def shell(*arguments: object, timeout: float = 120) -> Result:
    """The console script in a process of its own."""
    command = [str(MMPO), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    return Result(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """This process's, without what would turn tracebacks on or make the command a worker of a launcher."""
    return {key: value for key, value in os.environ.items() if key not in ("MMPO_DEBUG", "RANK", "LOCAL_RANK")}


def last_line(text: str) -> str:
    """The message; libraries may have written before it."""
    return text.strip().splitlines()[-1]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """`mmpo ARGUMENTS` in this process; anything but SystemExit is a traceback and fails the test."""
    for name in ("MMPO_DEBUG", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "should_launch", lambda launcher: False)  # also where there are several GPUs

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mmpo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Result(int(ended.value.code or 0), written.out, written.err)

    return call


def assert_refused(result: Result, *parts: str) -> None:
    """Exit code 2 and one message on stderr that holds these parts."""
    assert "Traceback" not in result.out + result.err
    assert result.code == 2, result
    assert result.err.startswith("error: "), result.err
    for part in parts:
        assert part in result.err


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A valid recipe whose checkpoint and data do not exist."""
    file = tmp_path / "mine.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture
def tiny_recipe(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> Path:
    """A recipe that would train a tiny checkpoint for one step."""
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", train__steps=1)
    file = tmp_path / "tiny.yaml"
    file.write_text(dump(validate(tree)))
    return file
