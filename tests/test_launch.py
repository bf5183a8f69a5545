"""Launcher options after `--`: each command that several processes can share hands itself on, as it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import Main
from test_synth import tree
from tiny_reward import make_clip, reward_tree

from pipelines import cli_runs, launch

main, tiny_recipe = command_line.main, command_line.tiny_recipe
Asked = list[tuple[list[str], list[str]]]
OPTIONS = ["--num_processes", "2"]


@pytest.fixture
def asked(main: Main, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is asked to be launched with which options. Nothing is, and 7 is the exit code."""
    asked: Asked = []
    monkeypatch.setattr(launch, "should_launch", bool)  # `main` switched it off
    monkeypatch.setattr(launch, "launch", lambda *given: asked.append((list(given[0]), list(given[1]))) or 7)
    monkeypatch.setattr(cli_runs, "LAUNCHER", [])
    return asked


def of_reward(folder: Path) -> Path:
    made = reward_tree(make_clip(folder / "clip", layers=1), tiny.make_pairs(folder / "pairs"), folder / "run")
    (folder / "reward.json").write_text(json.dumps(made))  # JSON is YAML
    return folder / "reward.json"


def of_synth(folder: Path) -> Path:
    (folder / "synth.json").write_text(json.dumps(tree(folder, tiny.make_sd(folder / "sd"))))
    return folder / "synth.json"


@pytest.mark.parametrize(
    ("command", "recipe"),
    [
        (["train-reward"], of_reward),
        (["synth"], of_synth),
        (["train"], lambda folder: "llava15_7b_rdpo"),
        (["respond"], lambda folder: "llava_responses"),
        (["retrieve"], lambda folder: "llava_retrieval"),
    ],
    ids=["train-reward", "synth", "train of a VLM", "respond", "retrieve"],
)
def test_a_command_hands_itself_on(
    command: list[str], recipe: Callable[[Path], object], main: Main, asked: Asked, tmp_path: Path
) -> None:
    """With the recipe, changed keys, and the launcher's options; its exit code is the command's."""
    given = [*command, str(recipe(tmp_path)), f"output={tmp_path / 'other'}"]
    assert main(*given, "--", *OPTIONS).code == 7
    assert asked == [(given, OPTIONS)]


def test_a_training_hands_itself_on(main: Main, asked: Asked, tiny_recipe: Path) -> None:
    assert main("train", tiny_recipe, "train.steps=2", "--", *OPTIONS).code == 7
    assert asked == [(["train", str(tiny_recipe), "train.steps=2"], OPTIONS)]
