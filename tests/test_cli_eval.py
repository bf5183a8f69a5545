"""`mmpo eval` of folders and settings that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import forks
import pytest
from command_line import RECIPE, Main, Result, assert_refused, last_line

main, tiny_recipe = command_line.main, command_line.tiny_recipe


def test_eval_of_a_folder_that_is_no_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = Result(*forks.call(forks.mmpo, "eval", tmp_path))
    assert "Traceback" not in result.err
    assert_refused(Result(result.code, result.out, last_line(result.err)), str(tmp_path), "train.json is missing")
    assert "mmpo train" in result.err


@pytest.fixture
def finished_run(tmp_path: Path, tiny_recipe: Path) -> Path:
    """A folder that says of itself that it is a finished run, which is all that the first checks look at."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps({"identity": {"base weights": "0"}}))
    (folder / "recipe.yaml").write_text(tiny_recipe.read_text())
    return folder


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["set evaluation.prompts", "evaluation.rewards"]),
        (["evaluation.prompts=shapes/test"], ["evaluation.rewards"]),
        (["evaluation.prompts=absent.txt", "evaluation.rewards=[random]"], ["no file 'absent.txt'"]),
        (["evaluation.prompts=shapes/test", "evaluation.rewards=[rondom]"], ["did you mean 'random'?"]),
        (
            ["evaluation.prompts=shapes/test", "evaluation.rewards=[{name: clip, wieghts: x}]"],
            ["reward clip: unknown option 'wieghts'", "did you mean 'weights'?"],
        ),
        (["evaluation.smaples=3"], ["evaluation.smaples: unknown key", "did you mean 'samples'?"]),
        (["evaluation.samples=0"], ["evaluation.samples", "greater than 0"]),
    ],
    ids=["nothing set", "no rewards", "prompts", "reward", "option", "key", "value"],
)
def test_eval_refuses_before_it_samples(main: Main, finished_run: Path, arguments: list[str], parts: list[str]) -> None:
    assert_refused(main("eval", finished_run, *arguments), *parts)
    assert not (finished_run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--export", "genevel"], ["--export: expected one of geneval, t2i_compbench, dpg, got 'genevel'"]),
        (["--export", "dpg", "--read-results", "x"], ["give one of them"]),
        (["--output", "x"], ["add --export KIND"]),
        (["--read-results", "x", "evaluation.limit=3"], ["'evaluation.limit=3'", "takes no changes"]),
        (["--read-results", "absent"], ["absent: no export, export.json is missing"]),
        (["--export", "dpg", "evaluation.prompts=shapes/test"], ["needs prompts of DPG-Bench"]),
        (["--export", "dpg", "train.steps=3"], ["mmpo eval changes the section evaluation only"]),
    ],
)
def test_exports_and_results_are_refused_before_anything_is_sampled(
    main: Main, finished_run: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_refused(main("eval", finished_run, *arguments), *parts)
    assert not (finished_run / "export").exists()


def test_a_run_whose_recipe_was_edited_wrongly_is_named(main: Main, finished_run: Path) -> None:
    (finished_run / "recipe.yaml").write_text(RECIPE + "train: {stpes: 5}\n")
    assert_refused(main("eval", finished_run), str(finished_run / "recipe.yaml"), "train.stpes: unknown key")
