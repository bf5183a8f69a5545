"""The command line's help: complete, quick, and shown before anything heavy is imported."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Sequence

import command_line
import pytest
from command_line import Main, Result, environment, shell

import mmpo

main = command_line.main

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "datasets", "numpy", "PIL")
COMMANDS = (
    *("demo", "init", "data", "label", "vote", "estimate", "train", "eval", "report", "export", "push"),
    *("respond", "losses", "rewards", "schema", "doctor", "env"),
)
QUICK = (["init", "--list"], ["schema"], ["doctor"], ["env"], ["losses"], ["rewards"])


def python(program: str, *arguments: object) -> str:
    """What a Python program prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help(arguments: Sequence[str]) -> None:
    result = shell(*arguments)
    assert (result.code, result.err) == (0, "")
    assert f"Usage: mmpo {'' if len(arguments) == 1 else arguments[0]}".strip() in result.out
    if len(arguments) == 1:
        assert all(re.search(rf"^  {command} +\w", result.out, re.MULTILINE) for command in COMMANDS)


def test_version() -> None:
    assert shell("--version") == Result(0, f"mmpo {mmpo.__version__}\n", "")


def test_no_arguments_show_the_help(main: Main) -> None:
    result = main()
    assert "Usage: mmpo" in result.out + result.err


def test_help_takes_at_most_half_a_second() -> None:
    assert least_seconds("--help") <= 0.5


def least_seconds(*arguments: object) -> float:
    """Processor time, the best of three: wall time would measure what else this machine does."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert shell(*arguments).code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_what_needs_no_torch_answers_in_a_second(arguments: list[str]) -> None:
    assert least_seconds(*arguments) <= 1.0


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_every_command_says_what_to_run_next(main: Main, arguments: list[str]) -> None:
    result = main(*arguments)
    assert "next: " in (result.err or result.out).splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        *QUICK,
        ["--help"],
        ["train", "--help"],
        ["data", "inspect", "--help"],
        ["train", "sd15_difusion_dpo"],
        ["train", "sd15_diffusion_dpo", "train.stpes=5"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_before_the_input_is_valid(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from pipelines.cli import main\n"
        "sys.argv = ['mmpo', *sys.argv[1:]]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        f"    print('loaded', sorted(set({HEAVY!r}) & sys.modules.keys()))\n"
    )
    assert python(program, *arguments).splitlines()[-1] == "loaded []"
