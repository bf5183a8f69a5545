"""The command line: `mmpo COMMAND`. Nothing heavy is imported before a command's input is valid."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mmpo import __version__
from pipelines import cli_estimate, cli_eval, cli_respond, cli_runs, cli_synth, cli_tools, cli_train_reward, cli_vote
from pipelines.data_cli import data_app
from pipelines.label_cli import label

WAITING = 75
"""The exit status of a training that waits for votes: not finished, nothing wrong."""
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""The system's numbers for a disk or a quota that is full; such an error names no file."""


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mmpo {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def build_app() -> typer.Typer:
    """All commands, in the order in which a new user meets them."""
    app = typer.Typer(
        name="mmpo",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Align image generators with preferences, and see by a verified reward that it worked.",
    )
    app.callback()(_root)
    app.command()(cli_runs.demo)
    app.command()(cli_tools.init)
    app.add_typer(data_app, name="data")
    app.command()(label)
    app.command()(cli_vote.vote)
    app.command()(cli_estimate.estimate)
    app.command()(cli_runs.train)
    app.command("train-reward")(cli_train_reward.train_reward)
    app.command()(cli_synth.synth)
    app.command()(cli_synth.generate)
    app.command()(cli_respond.respond)
    app.command("eval")(cli_eval.evaluate)
    app.command()(cli_runs.report)
    app.command()(cli_runs.export)
    app.command()(cli_runs.push)
    app.command()(cli_tools.losses)
    app.command()(cli_tools.rewards)
    app.command()(cli_tools.schema)
    app.command()(cli_tools.doctor)
    app.command()(cli_tools.env)
    return app


def main() -> None:
    """Entry point: splits off launcher options after `--`, turns user errors into one message without a traceback."""
    arguments = sys.argv[1:]
    if "--" in arguments:
        at = arguments.index("--")
        arguments, cli_runs.LAUNCHER[:] = arguments[:at], arguments[at + 1 :]
    _check_packages()
    try:
        arguments = _understood(arguments)
        build_app()(args=arguments, prog_name="mmpo")
    except ValueError as error:
        if os.environ.get("MMPO_DEBUG"):
            raise
        rank = int(os.environ.get("RANK", "0"))
        _fail(f"error{f' (process {rank})' if rank else ''}: {error}", 2)
    except OSError as error:
        if os.environ.get("MMPO_DEBUG") or (error.filename is None and error.errno not in FULL):
            raise
        named = f": {error.filename}" if error.filename is not None else ""
        _fail(f"error: {error.strerror}{named}{_fix(error)}", 2)
    except SystemExit as ended:
        if not _by_ctrl_c(ended):
            raise
        train = arguments[:1] in (["train"], ["train-reward"])
        kept = "finished shards and checkpoints are kept (add --resume once a checkpoint is there)"
        _fail(f"stopped; {kept if train else 'nothing half-written is left, run it again'}", 130)
    except Exception as error:
        if type(error).__name__ == "Waiting":  # for people, see mmpo.training.rounds
            if int(os.environ.get("RANK", "0")) == 0:
                _fail(str(error), WAITING)
            raise SystemExit(WAITING) from None
        if type(error).__name__ != "Interrupted":
            raise
        again = [*arguments, *([] if "--resume" in arguments else ["--resume"])]
        if int(os.environ.get("RANK", "0")) == 0:
            _fail(f"{error}; go on with: {shlex.join(['mmpo', *again])} (and the same launcher options)", 130)
        raise SystemExit(130) from None


def _by_ctrl_c(ended: SystemExit) -> bool:
    """Whether typer made this exit of a Ctrl-C; it says nothing about it."""
    return ended.code == 130 and isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt)


def _fix(error: OSError) -> str:
    """What to do about an error of the system; nothing where that depends."""
    if error.errno in FULL:
        return "; free some space and run it again (a training goes on with --resume once it has a checkpoint)"
    fixes: dict[type[OSError], str] = {
        IsADirectoryError: "; it is a folder: name a file",
        NotADirectoryError: "; a file stands where a folder is expected: name another place",
        FileExistsError: "; it is there already: name another place",
        PermissionError: "; change its permissions, or name another place",
    }
    return fixes.get(type(error), "")


def _understood(arguments: list[str]) -> list[str]:
    """The arguments of `mmpo train` with other tools' flags turned into overrides, each with a hint."""
    if arguments[:1] != ["train"]:
        return arguments
    from pipelines.flags import translate

    translated = translate(arguments, num_processes=_process_count(cli_runs.LAUNCHER))
    if int(os.environ.get("RANK", "0")) == 0:
        for note in translated.notes:
            print(f"note: {note}", file=sys.stderr)
    return translated.arguments


def _process_count(launcher: list[str]) -> int:
    """Processes that the training will have: what the launcher is told or told us, or one for each GPU."""
    options = " ".join(launcher).replace("=", " ").split()
    at = options.index("--num_processes") + 1 if "--num_processes" in options else len(options)
    if at < len(options) and options[at].isdigit():
        return int(options[at])
    if os.environ.get("WORLD_SIZE", "").isdigit():
        return int(os.environ["WORLD_SIZE"])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return max(1, len([device for device in visible.split(",") if device.strip() not in ("", "-1")]))
    from pipelines.environment import gpus

    return max(1, len(gpus()))


def _check_packages() -> None:
    """A user's own rewards.py or pipelines.py in the working folder comes before ours."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("rewards", "mmpo"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is not None and found.parent.parent != ours:
            _fail(f"error: {found} hides mmpo's package '{name}'; rename it, or run mmpo from another folder", 2)


def _fail(text: str, code: int) -> None:
    print(text, file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
