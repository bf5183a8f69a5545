"""The first stage of labelling, in threads: images decoded once, each distinct view of them made once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any, Protocol

from mmpo.data.images import decode
from rewards.scores import View

AHEAD = 3
"""Batches that are read and decoded before they are asked for."""


class Scorable(Protocol):
    """What labelling must know of a candidate: `mmpo.data.candidates.DataCandidate` says what each is."""

    @property
    def image(self) -> bytes:
        """The file's bytes."""
        ...

    @property
    def image_hash(self) -> str:
        """Equal hashes are equal images."""
        ...

    @property
    def prompt(self) -> str:
        """Or the question."""
        ...

    @property
    def response(self) -> str | None:
        """The answer, where that is what is scored."""
        ...

    @property
    def place(self) -> str:
        """File and row."""
        ...

    @property
    def error(self) -> str | None:
        """Why nobody can score it."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Candidates of one shard that are scored together.

    Args:
        shard: its number.
        columns: which scores are wanted; none where they are there already.
        items: the candidates; of another process's shard none.
        last: no more of this shard follow.
        look: images are decoded also where no score is wanted, to know which cannot be.
        count: candidates, also where `items` does not hold them.
        reached: rows of the data set that were read before its end.
    """

    shard: int
    columns: frozenset[str]
    items: Sequence[Any]
    last: bool
    look: bool = False
    count: int = 0
    reached: int = 0


@dataclass(frozen=True, slots=True)
class Looked:
    """What was made of one image.

    Args:
        error: why it cannot be decoded.
        views: by view what a model sees.
        faults: by view why it could not be made.
    """

    error: str | None = None
    views: Mapping[View, Any] = field(default_factory=dict)
    faults: Mapping[View, str] = field(default_factory=dict)


def look(image: bytes, views: Sequence[View]) -> Looked:
    """Decodes an image and makes its views. Nothing raises: an error is that of a row."""
    try:
        picture = decode(image)
    except Exception as error:
        return Looked(said(error))
    seen: dict[View, Any] = {}
    faults: dict[View, str] = {}
    for view in views:
        try:
            seen[view] = view(picture)
        except Exception as error:
            faults[view] = said(error)
    return Looked(None, seen, faults)


def said(error: Exception) -> str:
    """An exception as a row's error: its text, with its kind where it was not meant for a reader."""
    text = str(error) or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def prefetched(
    pieces: Iterator[Piece], views: Mapping[str, View], workers: int
) -> Generator[tuple[Piece, list[Looked]], None, None]:
    """Pieces in their order, with what was made of their images; `AHEAD` of them are made in advance.

    Args:
        pieces: is read in a thread of its own.
        views: of the rewards, by column.
        workers: threads that decode.
    Raises:
        Exception: whatever reading raised, after the pieces before it.
    """
    queue: Queue[tuple[Piece, list[Future[Looked]]] | Exception | None] = Queue(AHEAD)
    stop = threading.Event()
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode")
    reader = threading.Thread(target=_read, args=(pieces, views, pool, queue, stop), name="reader", daemon=True)
    reader.start()
    try:
        while True:
            got = queue.get()
            if got is None:
                return
            if isinstance(got, Exception):
                raise got
            piece, futures = got
            yield piece, [future.result() for future in futures]
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        while reader.is_alive():
            try:
                queue.get(timeout=0.05)
            except Empty:
                continue


def _read(
    pieces: Iterator[Piece],
    views: Mapping[str, View],
    pool: ThreadPoolExecutor,
    queue: Queue[Any],
    stop: threading.Event,
) -> None:
    try:
        looking = _Looking(views, lambda image, wanted: pool.submit(look, image, wanted))
        for piece in pieces:
            if stop.is_set() or not _put(queue, (piece, looking.futures(piece)), stop):
                return
        _put(queue, None, stop)
    except Exception as error:
        if not stop.is_set():
            _put(queue, error, stop)


def _put(queue: Queue[Any], value: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            queue.put(value, timeout=0.1)
            return True
        except Full:
            continue
    return False


class _Looking:
    """Submits images; one that the piece before or the same piece held is not decoded again."""

    def __init__(self, views: Mapping[str, View], submit: Callable[[bytes, Sequence[View]], Future[Looked]]) -> None:
        self._views, self._submit = views, submit
        self._before: dict[tuple[str, frozenset[str]], Future[Looked]] = {}

    def futures(self, piece: Piece) -> list[Future[Looked]]:
        wanted = list(dict.fromkeys(self._views[column] for column in sorted(piece.columns)))
        now: dict[tuple[str, frozenset[str]], Future[Looked]] = {}
        found = []
        for item in piece.items:
            if item.error is not None or not (wanted or piece.look):
                future: Future[Looked] = Future()
                future.set_result(Looked(item.error))
            else:
                key = (item.image_hash, piece.columns)
                future = now.get(key) or self._before.get(key) or self._submit(item.image, wanted)
                now[key] = future
            found.append(future)
        self._before = now
        return found
