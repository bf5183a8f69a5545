"""`mmpo data pair`: labels to pairs or ranked lists, by one pass over the scores and one over the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpo.data.answer_rows import answer_schema
from mmpo.data.candidates import open_candidates
from mmpo.data.exports import ShardWriter
from mmpo.data.labels import read_joined, read_marker
from mmpo.data.pair_choice import DROPPED, Ranked
from mmpo.data.pairing import Pair
from mmpo.data.rows import list_schema, pair_schema
from mmpo.data.shards import mark_done
from pipelines.data_output import new_folder, places
from pipelines.data_pair_plan import Job
from pipelines.data_pair_rank import Tally, Votes, chosen_pairs, ranked_groups
from pipelines.data_pair_rows import NUMBERS, beside, pair_rows, ranked_row
from pipelines.data_progress import told
from pipelines.data_source import Source


def count_pairs(job: Job) -> tuple[Counter[str], dict[str, float]]:
    """What `write_pairs` would make, and how far the rewards agree, from the scores alone."""
    tally = Tally(Votes(job.rule.rewards))
    for _, ranked, _ in _ranked(job, tally):
        if job.lists:
            tally.counts["kept"] += len({value for value in ranked.values if value is not None}) > 1
    return tally.counts, tally.votes.summary()


def write_pairs(job: Job, source: Source, output: Path) -> tuple[Counter[str], dict[str, float]]:
    """Writes the pairs, or lists, to a new folder.

    Returns:
        Counts of what was written and of what was not, by reason; the rewards' agreement.
    Raises:
        ValueError: nothing to write, or a data set that is not the one that was labelled.
        OSError: such as a full disk; nothing is left behind.
    """
    opened = open_candidates(source.path, **{k: v for k, v in source.options.items() if k != "limit"})
    answers = opened.kind == "answers"
    if answers and job.lists:
        raise ValueError(f"--lists: {source.path} holds text answers; lists are of images, so leave it out")
    tally = Tally(Votes(job.rule.rewards))
    with new_folder(output, [*places(source), str(job.labels)]) as folder:
        writer = ShardWriter(folder, lambda: _schema(job, answers))
        groups = opened.groups()
        for members, ranked, pairs in beside(_ranked(job, tally), groups, source.path):
            if job.lists:
                listed = ranked_row(members, ranked)
                rows = iter([listed] if listed else [])
            else:
                rows = pair_rows(members, ranked, pairs, keep_near=job.keep_near, counts=tally.counts)
            for row, size in rows:
                writer.add(row, size)
                tally.counts["written"] += 1
        writer.finish()
        if not tally.counts["written"]:
            raise ValueError("\n  ".join([f"{source.path}: nothing is left to write", *count_lines(job, tally.counts)]))
        said = tally.votes.summary()
        tally.counts["data go on"] = _goes_on(job, groups)
        mark_done(folder, job.settings(), {**tally.counts, "agreement of rewards": said})
    tally.counts["answers"] = int(answers)
    return tally.counts, said


def count_lines(job: Job, counts: Counter[str]) -> Iterator[str]:
    """What came out and what did not, for a terminal."""
    if job.lists:
        yield f"{counts['written'] or counts['kept']:,} lists of {counts['groups']:,} groups, ranked by {job.rule.by}"
    else:
        proposed, kept = counts["proposed"], counts["kept"] - counts["near duplicates"]
        yield (
            f"{kept:,} pairs of {proposed:,} that {job.choice.select} gives in {counts['groups']:,} groups, ranked by "
            f"{job.rule.by}"
        )
        meant = {
            "ties": "no difference",
            "not compared": "no reward scored both",
            "margin": f"within the margin of {job.choice.margin:g}",
            "floor": "the better one is below the floor",
            "agreement": f"fewer than {job.choice.agreement:g} of the rewards agree",
            "same image": "the same image, or answer, on both sides",
            "near duplicates": "nearly the same picture; --keep-near-duplicates keeps them",
            "limit": "more than asked for of one group",
        }
        for name in (*DROPPED, "near duplicates"):
            if counts[name]:
                yield f"left out, {name}: {counts[name]:,} ({meant[name]})"
    for name, of in (("unscored", "candidates"), ("one candidate", "groups"), ("without a pair", "groups")):
        if counts[name]:
            yield f"{name}: {counts[name]:,} of {counts[of]:,} {of}"
    if counts["data go on"]:
        yield "the data have more rows than were labelled, perhaps later ones; these are in nothing that was written"


def agreement_lines(shares: Mapping[str, float], shown: int = 10) -> Iterator[str]:
    """How far the rewards agree, the least agreeing first."""
    for couple, share in sorted(shares.items(), key=lambda item: item[1])[:shown]:
        yield f"{couple} agree on {share:.0%} of the pairs that both decide"


def _goes_on(job: Job, groups: Iterator[Any]) -> int:
    """Whether the data have more than was labelled, though all of them were to be."""
    limit = ((read_marker(job.labels) or {}).get("dataset") or {}).get("limit")
    return int(limit is None and next(groups, None) is not None)


def _ranked(job: Job, tally: Tally) -> Iterator[tuple[list[Any], Ranked, list[Pair]]]:
    marker = read_marker(job.labels) or {}
    total = marker.get("groups")
    shards = read_joined(job.labels, list(job.columns))
    groups = ranked_groups(shards, job.rule, tally, layers=job.choice.select == "layers")

    def line(done: int) -> str:
        return f"{done:,}{f' of {total:,}' if isinstance(total, int) else ''} groups"

    if job.lists:
        return ((group, ranked, []) for group, ranked in told(groups, line))
    return chosen_pairs(told(groups, line), job.choice, tally)


def _schema(job: Job, answers: bool) -> Any:
    if answers:
        return answer_schema(job.columns, numbers=NUMBERS)
    return list_schema(job.columns) if job.lists else pair_schema(job.columns, numbers=NUMBERS)
