"""Whoever answers a judge's questions, and the file in which answers are kept."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rewards.question import Question

Keep = Callable[[int, str], None]
"""Takes the number of a question and its answer, as soon as there is one; called from any thread."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        text: the answer; None where there is none.
        error: None, or why there is none.
    """

    text: str | None
    error: str | None = None


class Backend(Protocol):
    """A model that answers."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What decides its answers beside the question; no secrets."""
        ...

    def key(self, question: Question) -> str:
        """A hash of everything that decides the answer."""
        ...

    def ask(self, questions: Sequence[Question], keep: Keep) -> list[Reply]:
        """Answers to all, in order.

        Raises:
            ValueError: what would fail for every other question too.
        """
        ...


class ReplyFile:
    """Answers by key, one JSON line each, in FOLDER/replies.jsonl; only their places are held in memory.

    A line is written with one call and brought to the disk at once, so that a killed run does not ask again. A line
    that a kill cut, or that is not one of these, is passed over.
    """

    def __init__(self, folder: str) -> None:
        self._file = Path(folder).expanduser() / "replies.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._places: dict[bytes, int] = {}
        place = 0
        with open(self._file, "ab+") as handle:
            handle.seek(0)
            for line in handle:
                key = _key(line)
                if key is not None:
                    self._places[key] = place
                place += len(line)

    def get(self, key: str) -> str | None:
        """The answer of this key."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        with open(self._file, "rb") as handle:
            handle.seek(place)
            return json.loads(handle.readline())["reply"]

    def put(self, key: str, text: str) -> None:
        """Keeps an answer."""
        line = json.dumps({"key": key, "reply": text}).encode() + b"\n"
        with self._lock, open(self._file, "ab", buffering=0) as handle:
            end = handle.tell()
            if end and not _ends_a_line(self._file):
                line = b"\n" + line
            handle.write(line)
            os.fsync(handle.fileno())
            # Another process may have written in between: look for the line where it can be, at the file's end.
            self._places[bytes.fromhex(key)] = handle.tell() - len(line.lstrip(b"\n"))


def ask_all(backend: Backend, questions: Sequence[Question], kept: ReplyFile | None) -> list[Reply]:
    """Answers to all questions: those that are kept from the file, equal ones asked once."""
    if kept is None:
        return backend.ask(questions, lambda number, text: None)
    keys = [backend.key(question) for question in questions]
    known = {key: kept.get(key) for key in dict.fromkeys(keys)}
    new = [key for key, text in known.items() if text is None]
    first = {key: questions[keys.index(key)] for key in new}
    replies = backend.ask(list(first.values()), lambda number, text: kept.put(new[number], text)) if new else []
    answers = {key: Reply(text) for key, text in known.items() if text is not None}
    answers.update(zip(new, replies, strict=True))
    return [answers[key] for key in keys]


def hashed(payload: Any) -> str:
    """SHA-256 of what JSON can say: 64 hex digits."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _key(line: bytes) -> bytes | None:
    try:
        held = json.loads(line)
        return bytes.fromhex(held["key"]) if isinstance(held["reply"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _ends_a_line(file: Path) -> bool:
    with open(file, "rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"
