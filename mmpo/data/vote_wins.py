"""Votes as `mmpo vote` keeps them, a line each, and what they say: shares by pair, win rates by candidate. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VOTES = "votes.jsonl"
SCORES = "scores.jsonl"
RESULTS = (1, 2, 0)
DIGITS = 9
BEGINS = b'{"first": "'

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Vote:
    """What a person said of two candidates of one prompt.

    Args:
        first, second: ids: of the candidate's row where we made it (a sample's `id`), else its `key` as in labels.
        prompt: what both answer.
        result: 1 the first is better, 2 the second is, 0 neither; None takes back what the voter said of the two.
        voter: who.
        time: when, ISO 8601 in UTC.
        left: which of the two was shown on the left: 1 or 2.
    """

    first: str
    second: str
    prompt: str
    result: int | None
    voter: str
    time: str
    left: int = 1

    def line(self) -> bytes:
        """As a line of JSON."""
        return (json.dumps(asdict(self), ensure_ascii=False) + "\n").encode("utf-8", "replace")


def read_votes(path: Path) -> list[Vote]:
    """The votes of a file, or of `votes.jsonl` in a folder, in the order in which they were given.

    A last line without its end was cut off by a kill, before anybody was told that it is kept: it is left out.

    Raises:
        ValueError: no such file, or a line that is no vote; names the line.
    """
    file = path / VOTES if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"votes {file}: no such file; `mmpo vote DATA` writes one")
    return parse_votes(file.read_bytes(), f"votes {file}")[0]


def parse_votes(data: bytes, where: str) -> tuple[list[Vote], bytes]:
    """Votes, and the beginning of a last one that was cut off (of none: empty).

    Raises:
        ValueError: a line that is no vote; names its number.
    """
    *lines, last = data.split(b"\n")
    votes = [_vote(line, f"{where}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not last.strip():
        return votes, b""
    try:
        return [*votes, _vote(last, f"{where}, line {len(lines) + 1}")], b""
    except ValueError:
        if not BEGINS.startswith(last[: len(BEGINS)]):  # not of our making
            raise
        return votes, last


def standing(votes: Iterable[Vote]) -> dict[tuple[str, Pair], Vote]:
    """{(voter, (first, second)): vote}: the last that each voter said of two candidates, in the order it was said.

    A vote on the same two in the other order counts as turned round; the pair is named as it was at first.
    """
    found: dict[tuple[str, Pair], Vote] = {}
    named: dict[frozenset[str], Pair] = {}
    for vote in votes:
        pair = named.setdefault(frozenset((vote.first, vote.second)), (vote.first, vote.second))
        found.pop((vote.voter, pair), None)  # so that it comes last
        if vote.result is not None:
            found[vote.voter, pair] = vote if pair[0] == vote.first else turned(vote)
    return found


def counts_of(votes: Iterable[Vote]) -> dict[Pair, tuple[float, float]]:
    """{(first, second): (votes for the first, votes for the second)}; each voter counts once, a tie half for both."""
    found: dict[Pair, tuple[float, float]] = {}
    for (_, pair), vote in standing(votes).items():
        share = {1: 1.0, 2: 0.0, 0: 0.5}[vote.result or 0]
        before = found.get(pair, (0.0, 0.0))
        found[pair] = (before[0] + share, before[1] + 1 - share)
    return found


def wins_of(votes: Iterable[Vote]) -> dict[Pair, float]:
    """{(first, second): the share of voters that prefer the first}, in [0, 1]; a tie is 0.5, several voters a mean.

    Each two candidates stand there once, in the order of the first vote on them; `share_of` finds them either way.
    """
    return {pair: first / (first + second) for pair, (first, second) in counts_of(votes).items()}


def share_of(wins: Mapping[Pair, float], first: str, second: str) -> float | None:
    """The share that prefers `first` to `second`, whichever way round it stands; None where nobody compared them."""
    if (first, second) in wins:
        return wins[first, second]
    return 1 - wins[second, first] if (second, first) in wins else None


def win_rates(wins: Mapping[Pair, float], ids: Sequence[str]) -> dict[str, float]:
    """{id: its mean share over the others of `ids` that it was compared with}, of those that were compared."""
    own = {name: [share_of(wins, name, other) for other in ids if other != name] for name in ids}
    known = {name: [share for share in shares if share is not None] for name, shares in own.items()}
    return {name: round(sum(shares) / len(shares), DIGITS) for name, shares in known.items() if shares}


def read_scores(path: Path) -> dict[str, float]:
    """{id: win rate} of `scores.jsonl` in a folder that `mmpo vote` wrote, or of the file itself.

    Raises:
        ValueError: no such file.
    """
    file = path / SCORES if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"votes {file}: no such file; `mmpo vote DATA --write` writes one")
    rows = [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
    return {row["id"]: float(row["votes"]) for row in rows}


def turned(vote: Vote) -> Vote:
    """The same with first and second exchanged."""
    result = {1: 2, 2: 1}.get(vote.result or 0, vote.result)
    return Vote(vote.second, vote.first, vote.prompt, result, vote.voter, vote.time, 3 - vote.left)


def _vote(line: bytes, where: str) -> Vote:
    try:
        said: Any = json.loads(line)
        vote = Vote(**said)
    except (ValueError, TypeError):
        raise ValueError(f"{where}: is no vote; expected JSON as `mmpo vote` writes it: mend or remove it") from None
    texts = (vote.first, vote.second, vote.prompt, vote.voter, vote.time)
    if not all(isinstance(text, str) for text in texts) or vote.first == vote.second or vote.left not in (1, 2):
        raise ValueError(f"{where}: is no vote between two candidates: mend or remove it")
    if vote.result not in (*RESULTS, None) or isinstance(vote.result, bool):
        raise ValueError(f"{where}: result is {vote.result!r}; expected 1, 2, 0 (a tie) or null (taken back)")
    return vote
