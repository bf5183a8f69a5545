"""A synthesis in processes of its own: killed and gone on with, split over two processes, and one of them failing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forks
import pytest
import synth_killing
import tiny
from synth_killing import everything
from test_synth import make, tree

from mmpo.recipe_files import validate_as
from mmpo.synth_recipe import SynthRecipe
from pipelines.synth import plan
from pipelines.synth_files import alone

HERE = Path(__file__).parent
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")},
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
}


def run(*command: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """A program to its end."""
    given = [sys.executable, *map(str, command)]
    return subprocess.run(given, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, check=False)


def recipe_in(folder: Path, name: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """A recipe whose output is FOLDER/NAME/out, as a file and as a tree."""
    (folder / name).mkdir()
    made = {**tree(folder, folder / "sd", **changes), "output": str(folder / name / "out")}
    (folder / name / "recipe.json").write_text(json.dumps(made))  # JSON is YAML
    return folder / name / "recipe.json", made


def made_of(folder: Path) -> Mapping[str, Any]:
    """All files but the recipe and what shows it, which name the output."""
    return {name: rows for name, rows in everything(folder).items() if name.endswith((".parquet", "synth.json"))}


def test_killed_and_gone_on_with_is_identical(tmp_path: Path) -> None:
    """A SIGKILL in each of the three stages. Many more in scripts/soak.sh."""
    done = forks.call(synth_killing.main, ["--kills", "3", "--prompts", "12", "--folder", str(tmp_path)])
    assert done.code == 0, done
    assert "pixels identical" in done.out


def launched(file: Path) -> subprocess.CompletedProcess[str]:
    """The command on two processes of accelerate."""
    return run("-m", "pipelines.cli", "synth", file, "--", "--num_processes", 2)


def test_two_processes_make_what_one_does(tmp_path: Path) -> None:
    """Same ids, pixels and scores, and the main process alone says so."""
    tiny.make_sd(tmp_path / "sd")
    _, one = recipe_in(tmp_path, "one")
    make(one)
    file, _ = recipe_in(tmp_path, "two")
    done = forks.ranks(2, forks.mmpo, "synth", file)
    assert done.code == 0, done
    assert done.out.count("ranked lists of") == 1
    assert made_of(tmp_path / "two") == made_of(tmp_path / "one")


@pytest.mark.skipif("MMPO_SOAK" not in os.environ, reason="as long as the test above; scripts/soak.sh runs it")
def test_where_one_process_fails_the_other_does_not_wait_for_it(tmp_path: Path) -> None:
    """The error is the failed one's, and what both finished is kept."""
    tiny.make_sd(tmp_path / "sd")
    file, tree_ = recipe_in(tmp_path, "two")
    planned = plan(validate_as(SynthRecipe, tree_))
    blocked = planned.places.image_file(planned.sources[1].key, planned.units[1])
    (blocked / "in the way").mkdir(parents=True)  # the second process does every second unit
    failed = launched(file)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert f"{blocked}; it is a folder: name a file" in failed.stderr
    assert not list(planned.places.root.glob("shard-*"))
    (blocked / "in the way").rmdir()
    blocked.rmdir()
    make(tree_)
    _, whole = recipe_in(tmp_path, "one")
    make(whole)
    assert made_of(tmp_path / "two") == made_of(tmp_path / "one")


def test_a_second_call_in_the_same_output_is_refused(tmp_path: Path) -> None:
    """While the first is at work, whoever it is; afterwards it may."""
    tiny.make_sd(tmp_path / "sd")
    _, recipe = recipe_in(tmp_path, "x")
    with alone(plan(validate_as(SynthRecipe, recipe)).places):
        with pytest.raises(ValueError, match=f"another mmpo synth is at work in it \\(process {os.getpid()} on"):
            make(recipe)
        assert not list((tmp_path / "x").rglob("*.parquet"))
    make(recipe)
