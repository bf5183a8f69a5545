"""Labelling in processes of its own: killed and gone on with, and split over two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
import forks
import label_killing
import pytest
from command_line import Main
from label_data import everything, make_shapes

main = command_line.main
HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent))),
}


def run(*command: object, **options: Any) -> str:
    """What a program prints; it must end well."""
    given = [sys.executable, *map(str, command)]
    done = subprocess.run(given, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_and_gone_on_with_is_identical(tmp_path: Path) -> None:
    """Two SIGKILLs at random moments: rows and scores are the uninterrupted call's. Many more in scripts/soak.sh."""
    done = forks.call(label_killing.main, ["--kills", "2", "--prompts", "24", "--folder", str(tmp_path)])
    assert done.code == 0, done
    assert "2 kills" in done.out


def test_two_processes_label_as_one_does(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes every second shard; no row is scored twice, and the main one writes the marker and the summary."""
    make_shapes(tmp_path / "data", prompts=15)
    command = ("label", "data", "-r", "random", "-r", "shapes", "--shard-rows", 6, "--output")
    monkeypatch.chdir(tmp_path)
    assert main(*command, "one").code == 0
    said = run("-m", "pipelines.cli", *command, "two", "--", "--num_processes", 2, cwd=tmp_path)
    assert said.count("next: mmpo data pair data --labels two") == 1
    assert "this call: 24 in" in said
    assert everything(tmp_path / "two") == everything(tmp_path / "one")
