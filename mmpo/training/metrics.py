"""Where metrics go: metrics.jsonl, trackers, and the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpo.files import naming, write_bytes
from mmpo.training.trackers import open_trackers

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends one JSON line per step and tells the trackers; on a resume, later lines are dropped.

    Args:
        folder: of the run.
        start: steps done before; lines of later steps come from a run that was killed and are removed.
        enabled: false on every process but the main one.
        report_to: trackers beside the file.
        config: the recipe, for trackers that show it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        enabled: bool,
        report_to: Sequence[str] = ("tensorboard",),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._enabled = enabled
        if not enabled:
            return
        self._file = folder / METRICS_FILE
        kept = [line for line in read_metrics(folder) if line["step"] <= start] if start else []
        # a round of own samples is told of after its step's checkpoint, so it will be told of again
        kept = [line for line in kept if line["step"] < start or "rollout/round" not in line]
        write_bytes(self._file, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._trackers = open_trackers(report_to, folder, start, config or {})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; `step` counts finished optimiser steps."""
        if not self._enabled:
            return
        with naming(self._file, self._file), open(self._file, "a", encoding="utf-8") as out:
            out.write(json.dumps({"step": step, **values}) + "\n")
        for tracker in self._trackers:
            tracker.scalars(step, values)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8], caption: str) -> None:
        """A picture [H, W, 3] for the trackers."""
        if self._enabled:
            for tracker in self._trackers:
                tracker.image(step, name, pixels, caption)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def close(self, *, failed: bool = False) -> None:
        """Lets the trackers write what is left; where a run failed they say so."""
        if self._enabled:
            for tracker in self._trackers:
                tracker.close(failed=failed)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut by a kill is left out."""
    file = folder / METRICS_FILE
    if not file.is_file():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


class Console:
    """Progress in the terminal: a live bar where there is one, else a line every few seconds.

    Args:
        total: steps of the run; None where nobody knows.
        start: steps done before.
        enabled: false on every process but the main one.
    """

    def __init__(self, total: int | None, *, start: int, enabled: bool, title: str = "train") -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._out = RichConsole(quiet=not enabled, highlight=False, soft_wrap=True)
        self._live = enabled and self._out.is_terminal
        self._title, self._total, self._last = title, total, 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._out,
            disable=not self._live,
        )
        self._task = self._progress.add_task(title, total=total, completed=start, note="")

    def __enter__(self) -> Console:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, done: int, note: str) -> None:
        """Shows that `done` of `total` are done."""
        self._progress.update(self._task, completed=done, note=note)
        if not self._live and (time.monotonic() - self._last > 10 or done == self._total):
            self._last = time.monotonic()
            of = "" if self._total is None else f"/{self._total}"
            self._out.print(f"{self._title} {done}{of}  {note}", markup=False)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._out.print(text, markup=False)
