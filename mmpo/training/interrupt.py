"""Ctrl-C and SIGTERM finish the step, write a checkpoint and stop; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import torch


class Interrupted(Exception):
    """The run was asked to stop and has written a checkpoint."""


class InterruptFlag:
    """A context in which SIGINT and SIGTERM only set a flag."""

    def __init__(self) -> None:
        self._set = False
        self._old: dict[int, object] = {}

    def __enter__(self) -> InterruptFlag:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._set:
            raise KeyboardInterrupt
        self._set = True

    def on_this_process(self) -> bool:
        """Whether this process was asked to stop."""
        return self._set

    def on_any_process(self, device: torch.device) -> bool:
        """Whether any process was asked to stop, so that all stop after the same step."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._set
        flag = torch.tensor(int(self._set), device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag)
