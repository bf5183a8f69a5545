"""Wrong recipes and wrong usage: errors that say where and what to do, without a traceback."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import command_line
import pytest
from command_line import Main, assert_refused, shell

from mmpo.recipe_files import shipped_recipes
from pipelines import cli

main, recipe_file = command_line.main, command_line.recipe_file


def test_an_unknown_key_in_a_process_of_its_own(recipe_file: Path) -> None:
    result = shell("train", recipe_file, "train.stpes=5")
    assert_refused(result, "mine.yaml", "train.stpes: unknown key", "did you mean 'steps'?")
    assert result.out == ""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train.steps=many"], ["train.steps", "valid integer", "'many'"]),
        (["train.steps"], ["override 'train.steps'", "section.key=value"]),
        (["method.loss=dppo"], ["loss: unknown name 'dppo'", "did you mean 'dpo'?"]),
        (["model.lora=null", "method.reference=adapters_off", "--dry-run"], ["method.reference", "frozen_copy"]),
    ],
    ids=["type", "no value", "loss", "reference"],
)
def test_a_wrong_value(main: Main, recipe_file: Path, arguments: list[str], parts: list[str]) -> None:
    assert_refused(main("train", recipe_file, *arguments), *parts)


def test_a_missing_recipe(main: Main, tmp_path: Path) -> None:
    assert_refused(main("train", "sd15_difusion_dpo"), "did you mean 'sd15_diffusion_dpo'?", *shipped_recipes())
    assert_refused(main("train", tmp_path / "absent.yaml"), "absent.yaml", "give a YAML file or one of")


@pytest.mark.parametrize(
    "arguments", [["trian", "x"], ["train", "x", "-Z"], ["report"], ["data", "inspect"]], ids=" ".join
)
def test_wrong_usage_shows_the_usage(main: Main, arguments: list[str]) -> None:
    result = main(*arguments)
    assert result.code == 2
    assert "Usage: mmpo" in result.err
    assert "Error: " in result.err


@pytest.mark.parametrize(("command", "words"), [("train", "--resume"), ("report", "run it again")])
def test_ctrl_c_says_what_is_left(
    main: Main, monkeypatch: pytest.MonkeyPatch, recipe_file: Path, command: str, words: str
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    for name in ("pipelines.train", "pipelines.checks", "pipelines.report"):
        importlib.import_module(name)  # what is first imported under the patch would keep it for good
    monkeypatch.setattr("mmpo.recipe_files.load_recipe", stop)
    monkeypatch.setattr("pipelines.report.write_report", stop)
    result = main(command, recipe_file)
    assert result.code == 130
    assert result.err.startswith("stopped; ")
    assert words in result.err
    assert [name for name, module in sys.modules.items() if vars(module).get("load_recipe") is stop] == [
        "mmpo.recipe_files"
    ]


def test_train_without_anything_says_what_to_give(main: Main) -> None:
    assert_refused(main("train"), "give a recipe", "mmpo init", "model.path=")


def test_a_flag_of_another_tool_that_is_nearly_right(main: Main, recipe_file: Path) -> None:
    assert_refused(main("train", recipe_file, "--learning_rat", "1e-5"), "--learning_rate")


def test_an_unknown_flag_says_how_settings_are_given(main: Main, recipe_file: Path) -> None:
    parts = [
        "--checkpoint_evry: no such flag",
        "section.key=value",
        "train.checkpoint_every",
        "mmpo init",
        "mmpo schema",
    ]
    assert_refused(main("train", recipe_file, "--checkpoint_evry", "5"), *parts)
    assert_refused(main("train", recipe_file, "--unheard-of"), "section.key=value", "mmpo init")


def test_a_fault_of_ours_still_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, recipe_file: Path) -> None:
    """Only errors that a user can mend are made short; a bug report needs the traceback."""
    monkeypatch.setattr(cli, "build_app", lambda: lambda **options: (_ for _ in ()).throw(RuntimeError("a bug")))
    monkeypatch.setattr(sys, "argv", ["mmpo", "train", str(recipe_file)])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_the_environment_can_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch, recipe_file: Path) -> None:
    monkeypatch.setenv("MMPO_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["mmpo", "train", str(recipe_file), "train.steps=0"])
    with pytest.raises(ValueError, match=r"train\.steps"):
        cli.main()
