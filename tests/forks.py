"""Processes of their own that begin with torch, diffusers and transformers loaded.

Importing those costs 8 to 14 s of a processor, which tests of what processes do to files and to each other need not pay
each: a server imports `forked_imports` once for a pytest process and nothing else, and every process here is a fork of
it. It is a process like any other, with its own signals, standard output and exit code; what importing itself does
(time, warnings on stderr) only a command that is started whole can show: `command_line.shell`.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

HERE = Path(__file__).parent
OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MMPO_DEBUG")
FIXED = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Ended(NamedTuple):
    """How a process ended (of several: the first that failed by itself) and what all of them wrote."""

    code: int
    out: str
    err: str


@cache
def _context() -> Any:
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["forked_imports"])
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_LAUNCHER}
    paths = os.pathsep.join(map(str, (HERE, HERE.parent)))
    with mock.patch.dict(os.environ, {**kept, **FIXED, "PYTHONPATH": paths}, clear=True):
        ensure_running()
    return context


def _work(
    function: Callable[..., object], given: Sequence[Any], files: Sequence[str], where: str, more: Mapping[str, str]
) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(more)
    os.chdir(where)
    import torch

    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    function(*given)


class Running:
    """A process at work; `end` waits for it."""

    def __init__(self, function: Callable[..., object], given: Sequence[Any], where: Path, more: Mapping[str, str]):
        with ExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory())
            self._files = [f"{self._folder}/{name}" for name in ("out", "err")]
            self.process = _context().Process(target=_work, args=(function, given, self._files, str(where), dict(more)))
            self.process.start()
            self._kept = stack.pop_all()

    def end(self, timeout: float = 240) -> Ended:
        """How it ended; after `timeout` seconds it is killed."""
        with self._kept:
            self.process.join(timeout)
            if self.process.exitcode is None:
                self.process.kill()
                self.process.join()
            out, err = (Path(file).read_text() if Path(file).exists() else "" for file in self._files)
            return Ended(int(self.process.exitcode), out, err)


def start(
    function: Callable[..., object], *given: Any, where: Path | None = None, more: Mapping[str, str] | None = None
) -> Running:
    """Begins `function(*given)` in a process of its own; the function is one of a module and no local one."""
    return Running(function, given, where or Path.cwd(), more or {})


def call(function: Callable[..., object], *given: Any, where: Path | None = None) -> Ended:
    """`function(*given)` in a process of its own, to its end."""
    return start(function, *given, where=where).end()


def ranks(count: int, function: Callable[..., object], *given: Any, where: Path | None = None) -> Ended:
    """`function(*given)` in each of `count` processes, which find each other as those of a launcher do.

    Where one fails, the others are killed, since they would wait for it.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    begun = [
        start(function, *given, where=where, more={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    alive = {one.process.sentinel: one.process for one in begun}
    while alive and (ready := wait(alive, timeout=240)):
        if any(alive.pop(sentinel).exitcode for sentinel in ready):
            for process in alive.values():
                process.kill()
    ended = [one.end() for one in begun]
    code = next((one.code for one in sorted(ended, key=lambda one: one.code < 0) if one.code), 0)
    return Ended(code, "".join(one.out for one in ended), "".join(one.err for one in ended))


def mmpo(*arguments: object) -> None:
    """The command line with these arguments: a function for the ones above."""
    from pipelines.cli import main

    sys.argv = ["mmpo", *map(str, arguments)]
    main()
