"""Signs of life of the data commands: a line on stderr every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

EVERY = 5.0  # seconds; what is done sooner says nothing

T = TypeVar("T")


def told(items: Iterable[T], line: Callable[[int], str]) -> Iterator[T]:
    """The items as they come; what takes long says how far it is.

    Args:
        line: what to say, of how many items were taken before.
    """
    last = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            print(line(number), file=sys.stderr, flush=True)
        yield item
