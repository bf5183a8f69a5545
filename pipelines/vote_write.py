"""What votes say, written for training: pairs, ranked lists, and a score for each candidate that was compared."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa

from mmpo.data.answer_rows import answer_list_row, answer_list_schema, answer_row, answer_schema
from mmpo.data.candidates import DataCandidate
from mmpo.data.exports import ShardWriter
from mmpo.data.pairing import ranks
from mmpo.data.rows import list_row, list_schema, pair_row, pair_schema
from mmpo.data.shards import mark_done, read_done
from mmpo.data.vote_shares import SHARES
from mmpo.data.vote_wins import SCORES, Pair, Vote, counts_of, standing, win_rates
from mmpo.files import replace_folder, write_bytes
from mmpo.records import content_id
from pipelines.data_pair_rows import NUMBERS, group_of
from pipelines.vote_ballot import Ballot
from pipelines.vote_data import Images, Member, VoteData

COUNTS, SHARE = SHARES
PAIRS, LISTS = "pairs", "lists"
MADE_BY = "mmpo vote"


class Written(NamedTuple):
    """Counts of what was written, and of what was not."""

    counts: Counter[str]
    output: Path

    def lines(self) -> Iterator[str]:
        """For a terminal and for the page."""
        counts = self.counts
        voters = f"{counts['voters']:,} voter{'s' * (counts['voters'] > 1)}"
        yield f"{counts['votes']:,} votes of {voters} on {counts['compared']:,} candidates"
        undecided = f" ({counts['ties']:,} undecided are left out)" if counts["ties"] else ""
        yield f"{counts[PAIRS]:,} pairs{undecided}: {self.output / PAIRS}"
        equal = f" ({counts['equal']:,} without a best one are left out)" if counts["equal"] else ""
        yield f"{counts[LISTS]:,} ranked lists{equal}: {self.output / LISTS}"
        yield f"scores by candidate: {self.output / SCORES}"


class Finish:
    """Writes what a ballot says, one call at a time.

    Args:
        lines: of the last call, for a terminal; none before.
    """

    def __init__(self, data: VoteData, ballot: Ballot, output: Path, source: str) -> None:
        self._data, self._ballot, self._output, self._source = data, ballot, output, source
        self._lock = Lock()
        self.lines: list[str] = []

    def __call__(self) -> list[str]:
        with self._lock:
            written = write_votes(self._data, self._ballot.votes, self._output, self._source)
            self.lines = [*written.lines()]
            return self.lines


def write_votes(data: VoteData, votes: Sequence[Vote], output: Path, source: str) -> Written:
    """Writes `pairs/`, `lists/` and `scores.jsonl`; what an earlier call wrote there is replaced.

    A pair is two candidates of which more voters prefer one; a list holds the compared candidates of a prompt by their
    mean share over those they were compared with.

    Args:
        output: the folder of the votes.
        source: the data's path, for the markers.
    Raises:
        ValueError: no vote prefers one of two, or a folder of that name holds something else.
        OSError: such as a full disk; a folder is replaced whole or not at all.
    """
    decided = counts_of(votes)
    said = standing(votes)
    counts: Counter[str] = Counter(votes=len(said), voters=len({voter for voter, _ in said}))
    if not any(first != second for first, second in decided.values()):
        why = "all votes are ties, or cancel out" if decided else "nobody voted yet"
        raise ValueError(f"{output}: {why}, so there is nothing to train on; compare some more")
    for name in (PAIRS, LISTS):
        _check_ours(output / name)
    found = [(group, *_of_group(group, decided)) for group in data.groups]
    settings = {"made by": MADE_BY, "data": source}
    answers = data.kind == "answers"
    rows: dict[str, Iterator[tuple[dict[str, Any], int]]] = {
        PAIRS: (row for group, shares, _ in found for row in _pairs(group, shares, data.images, counts)),
        LISTS: (row for group, _, rates in found for row in _lists(group, rates, data.images, counts)),
    }
    for name, schema in _schemas(answers).items():
        counts[name] = _replace(output / name, schema, rows[name], {**settings, "format": name})
    lines = [
        _score(member, rates[member.id], shares)
        for group, shares, rates in found
        for member in group
        if member.id in rates
    ]
    counts["compared"] = len(lines)
    write_bytes(output / SCORES, "".join(lines).encode())
    return Written(counts, output)


Decided = Mapping[Pair, tuple[float, float]]


def _of_group(group: Sequence[Member], decided: Decided) -> tuple[dict[Pair, tuple[float, float]], dict[str, float]]:
    """Votes and win rates of a group's candidates, in its order."""
    ids = [member.id for member in group]
    shares = {}
    for at, first in enumerate(ids):
        for second in ids[at + 1 :]:
            if (first, second) in decided:
                shares[first, second] = decided[first, second]
            elif (second, first) in decided:
                shares[first, second] = decided[second, first][::-1]
    return shares, win_rates({pair: a / (a + b) for pair, (a, b) in shares.items()}, ids)


def _pairs(
    group: Sequence[Member], shares: Decided, images: Images, counts: Counter[str]
) -> Iterator[tuple[dict[str, Any], int]]:
    by_id = {member.id: member for member in group}
    for (first, second), (a, b) in shares.items():
        if a == b:
            counts["ties"] += 1
            continue
        names, votes = ((first, second), (a, b)) if a > b else ((second, first), (b, a))
        sides = [_whole(by_id[name], images) for name in names]
        share = votes[0] / (a + b)
        numbers = dict(zip(NUMBERS, (share, 2 * share - 1), strict=True))
        yield {**_pair(sides, {COUNTS: list(votes)}), **numbers}, _size(sides)


def _pair(sides: Sequence[DataCandidate], scores: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    chosen, rejected = sides
    if chosen.response is None or rejected.response is None:
        return pair_row(group_of("pair", sides, scores, [1, 2]))
    return answer_row(
        id=content_id("pair", chosen.key, rejected.key),
        prompt=chosen.prompt,
        key=chosen.cluster,
        split=chosen.split,
        image=chosen.image,
        image_hash=chosen.image_hash,
        answers=(chosen.response, rejected.response),
        made=[chosen.made, rejected.made],
        scores=scores,
    )


def _lists(
    group: Sequence[Member], rates: Mapping[str, float], images: Images, counts: Counter[str]
) -> Iterator[tuple[dict[str, Any], int]]:
    if len(set(rates.values())) < 2:
        counts["equal"] += bool(rates)
        return
    members = sorted((member for member in group if member.id in rates), key=lambda member: -rates[member.id])
    values = [rates[member.id] for member in members]
    sides = [_whole(member, images) for member in members]
    ranked = group_of("list", sides, {SHARE: values}, ranks(values))
    answers = [side.response for side in sides if side.response is not None]
    row = answer_list_row(ranked, sides[0].image_hash, answers) if answers else list_row(ranked)
    yield {**row, "value": values}, _size(sides)


def _whole(member: Member, images: Images) -> DataCandidate:
    return replace(member.candidate, image=images.read(member.image))


def _size(sides: Sequence[DataCandidate]) -> int:
    return sum(len(side.image) for side in sides)


def _score(member: Member, rate: float, shares: Decided) -> str:
    votes = sum(a + b for pair, (a, b) in shares.items() if member.id in pair)
    record = {"id": member.id, "key": member.candidate.key, "votes": rate, "compared": round(votes)}
    return json.dumps(record) + "\n"


def _schemas(answers: bool) -> dict[str, pa.Schema]:
    if answers:
        return {PAIRS: answer_schema((COUNTS,), numbers=NUMBERS), LISTS: answer_list_schema((SHARE,))}
    return {PAIRS: pair_schema((COUNTS,), numbers=NUMBERS), LISTS: list_schema((SHARE,), value=True)}


def _check_ours(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    done = read_done(folder) if folder.is_dir() else None
    if (done or {}).get("settings", {}).get("made by") != MADE_BY:
        raise ValueError(f"{folder}: is not of mmpo vote, and nothing is overwritten; give another --output")


def _replace(
    folder: Path, schema: pa.Schema, rows: Iterator[tuple[dict[str, Any], int]], settings: Mapping[str, Any]
) -> int:
    """Rows into shards in place of what is there; none leave no folder. How many."""
    first = next(rows, None)
    if first is None:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    written = 1
    with replace_folder(folder.resolve()) as partial:
        writer = ShardWriter(partial, lambda: schema)
        writer.add(*first)
        for row, size in rows:
            writer.add(row, size)
            written += 1
        writer.finish()
        mark_done(partial, settings, {"rows": written})
    return written
