"""What `mmpo vote` shows: the candidates of each prompt together, their images in a file without a name. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO

from mmpo.data.candidates import LARGEST_GROUP, DataCandidate, OpenCandidates
from mmpo.data.headers import read_header
from mmpo.records import content_id
from pipelines.data_progress import told

COMPARISON = "comparison"
TYPES = {  # others are shown as PNG
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}


class Images:
    """Images by number, each content once, in a temporary file: data sets may be larger than memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._lock = file, Lock()
        self._places: list[tuple[int, int, str]] = []
        self._numbers: dict[str, int] = {}
        self._end = 0

    def add(self, name: str, data: bytes) -> int:
        """Keeps an image.

        Args:
            name: its hash.
        Returns:
            Its number.
        Raises:
            ValueError: it is no image that can be shown.
        """
        if name not in self._numbers:
            kind = read_header(data).kind
            self._file.seek(self._end)
            self._file.write(data)
            self._numbers[name] = len(self._places)
            self._places.append((self._end, len(data), kind))
            self._end += len(data)
        return self._numbers[name]

    def read(self, number: int) -> bytes:
        """Its bytes as they came."""
        start, size, _ = self._places[number]
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)

    def shown(self, number: int) -> tuple[str, bytes]:
        """Media type and bytes that a browser shows."""
        kind, data = self._places[number][2], self.read(number)
        if kind in TYPES:
            return TYPES[kind], data
        from mmpo.data.images import decode, encode

        return "image/png", encode(decode(data))

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate that can be voted on.

    Args:
        id: its name in votes.
        candidate: without its image's bytes.
        image: its number; of an answer, of the image asked about.
    """

    id: str
    candidate: DataCandidate
    image: int


@dataclass(frozen=True)
class VoteData:
    """Everything of a data set that people can vote on.

    Args:
        groups: of two and more candidates of one prompt.
        alone: prompts with one candidate.
        bad: what cannot be shown, by place with the reason.
    """

    kind: str
    images: Images
    groups: Sequence[Sequence[Member]]
    alone: int = 0
    bad: Sequence[str] = field(default_factory=list)

    def named(self) -> list[tuple[str, list[str]]]:
        """Of each group its name and its candidates' ids, as `mmpo.data.vote_schedule.schedule` takes them."""
        return [(_name(group[0].candidate), [member.id for member in group]) for group in self.groups]


@contextmanager
def vote_data(opened: OpenCandidates, path: str, folder: Path | None = None) -> Iterator[VoteData]:
    """Reads all candidates once.

    Candidates of one prompt and split (of answers: of one image too) are a group wherever they stand in the data, of
    at most `LARGEST_GROUP`; those whose provenance names a comparison (samples of a round) with others of that one.

    Args:
        path: as it is named in messages.
        folder: where the file of the images goes, which has no name and is gone after this; None: the system's.
    Raises:
        ValueError: nothing to compare.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        images, bad, taken = Images(file), list[str](), set[str]()
        found: dict[str, dict[str, Member]] = {}
        groups = told(opened.groups(), lambda count: f"{count:,} prompts read, {len(images):,} images")
        for candidate in (candidate for group in groups for candidate in group):
            try:
                if candidate.error is not None:
                    raise ValueError(candidate.error)
                number = images.add(candidate.image_hash, candidate.image)
            except ValueError as error:
                bad.append(f"{candidate.place}: {error}")
                continue
            group = found.setdefault(_name(candidate), {})
            if candidate.key not in group:
                name = candidate.id if candidate.id and candidate.id not in taken else candidate.key
                taken.add(name)
                group[candidate.key] = Member(name, candidate.without_image(), number)
        every = [part for members in found.values() for part in _parts([*members.values()])]
        several = [group for group in every if len(group) > 1]
        if not several:
            raise ValueError(_nothing(path, len(every), bad))
        yield VoteData(opened.kind, images, several, len(every) - len(several), bad)


def _name(candidate: DataCandidate) -> str:
    about = candidate.image_hash if candidate.response is not None else ""
    return content_id("vote", candidate.prompt, candidate.split, about, candidate.made.get(COMPARISON))


def _parts(members: list[Member]) -> list[list[Member]]:
    return [members[at : at + LARGEST_GROUP] for at in range(0, len(members), LARGEST_GROUP)]


def _nothing(path: str, alone: int, bad: Sequence[str]) -> str:
    reasons = "".join(f"\n  {message}" for message in bad[:3])
    left_out = f"; {len(bad):,} cannot be shown:{reasons}" if bad else ""
    if not alone:
        return f"{path}: no image or answer in it can be shown{left_out}"
    return (
        f"{path}: each of its {alone:,} prompts has a single candidate, and a vote compares two of one prompt; give "
        f"two or more images (or answers) of each prompt{left_out}"
    )
