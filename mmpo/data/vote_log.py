"""The file of votes while somebody votes: lines are added and never changed, each on the disk before it is answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from mmpo.data.vote_wins import VOTES, Vote, parse_votes
from mmpo.files import naming, sync_folder


class VoteLog:
    """An open file of votes.

    Args:
        file: open for appending.
        votes: what stands in it; `add` adds to them.
    """

    def __init__(self, file: FileIO, votes: list[Vote]) -> None:
        self._file = file
        self.votes = votes

    def add(self, vote: Vote) -> None:
        """Appends a line and waits until it is on the disk.

        Raises:
            OSError: such as a full disk; nothing of the line is left then.
        """
        before = os.fstat(self._file.fileno()).st_size
        path = Path(str(self._file.name))
        try:
            with naming(path, path):
                _append(self._file, vote.line())
        except OSError:
            os.ftruncate(self._file.fileno(), before)
            raise
        self.votes.append(vote)


@contextmanager
def open_log(folder: Path) -> Iterator[VoteLog]:
    """Opens `votes.jsonl` of a folder, or begins it; for one process at a time.

    What a kill left of a last line is removed: nobody was told that it is kept.

    Raises:
        ValueError: another process has it open, or it holds what is no vote.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / VOTES
    with FileIO(path, "a") as file:
        _hold(file, path)
        data = path.read_bytes()
        votes, cut = parse_votes(data, f"votes {path}")
        if cut:
            os.ftruncate(file.fileno(), len(data) - len(cut))
        elif data and not data.endswith(b"\n"):
            _append(file, b"\n")
        sync_folder(folder)
        log = VoteLog(file, votes)
        try:
            yield log
        finally:
            if not log.votes:  # an empty file would say that somebody voted
                path.unlink(missing_ok=True)


def _append(file: FileIO, data: bytes) -> None:
    left = data
    while left:  # an unbuffered file may take a part
        left = left[file.write(left) or 0 :]
    os.fsync(file.fileno())


def _hold(file: FileIO, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"votes {path}: another `mmpo vote` has them open; end it, or give another --output (the lines of both can "
            "be put into one file later)"
        ) from None
    except (ImportError, OSError):
        return  # a system or a file system without locks
