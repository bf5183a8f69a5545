"""The command line's help: complete, quick, and shown before anything heavy is imported."""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys

import command_line
import pytest
from command_line import Main, Result, environment, shell

import mmpo

main = command_line.main

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "datasets", "numpy", "PIL")
COMMANDS = (
    *("demo", "init", "data", "label", "vote", "estimate", "train", "eval", "report", "export", "push"),
    *("respond", "retrieve", "losses", "rewards", "schema", "doctor", "env"),
)
QUICK = (["init", "--list"], ["schema"], ["doctor"], ["env"], ["losses"], ["rewards"])


def python(program: str, *arguments: object) -> str:
    """What a Python program prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout


def test_help_in_a_process_of_its_own() -> None:
    result = shell("--help")
    assert (result.code, result.err) == (0, "")
    assert "Usage: mmpo" in result.out
    assert all(re.search(rf"^  {command} +\w", result.out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, main: Main) -> None:
    result = main(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: mmpo {command}" in result.out


def test_version() -> None:
    assert shell("--version") == Result(0, f"mmpo {mmpo.__version__}\n", "")


def test_no_arguments_show_the_help(main: Main) -> None:
    result = main()
    assert "Usage: mmpo" in result.out + result.err


def test_help_takes_at_most_half_a_second() -> None:
    assert least_seconds(0.5, "--help") <= 0.5


def least_seconds(enough: float, *arguments: object) -> float:
    """Processor time, the first of five tries that is `enough` or the best: the clock would measure this machine."""
    spent: list[float] = []
    while len(spent) < 5 and min(spent, default=math.inf) > enough:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell(*arguments).code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_what_needs_no_torch_answers_in_a_second(arguments: list[str]) -> None:
    assert least_seconds(1.0, *arguments) <= 1.0


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_every_command_says_what_to_run_next(main: Main, arguments: list[str]) -> None:
    result = main(*arguments)
    assert "next: " in (result.err or result.out).splitlines()[-1]


def test_nothing_heavy_is_imported_before_the_input_is_valid() -> None:
    """One command after the other in one new process; what the first heavy one loaded shows behind its name."""
    asked = [
        *QUICK,
        *([command, "--help"] for command in COMMANDS),
        ["--help"],
        ["data", "inspect", "--help"],
        ["train", "sd15_difusion_dpo"],
        ["train", "sd15_diffusion_dpo", "train.stpes=5"],
    ]
    program = (
        "import sys\n"
        "from pipelines.cli import main\n"
        f"for asked in {asked!r}:\n"
        "    sys.argv = ['mmpo', *asked]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        f"        print('loaded', asked, sorted(set({HEAVY!r}) & sys.modules.keys()))\n"
    )
    assert [line for line in python(program).splitlines() if line.startswith("loaded")] == [
        f"loaded {arguments} []" for arguments in asked
    ]
