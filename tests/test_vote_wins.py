"""Votes: their file, what they add up to, and the order in which candidates are compared."""

from __future__ import annotations

import errno
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest
from vote_files import lines, vote

from mmpo.data.vote_log import open_log
from mmpo.data.vote_schedule import schedule, spread_couples, unseen
from mmpo.data.vote_wins import counts_of, read_scores, read_votes, share_of, standing, win_rates, wins_of

# ------------------------------------------------------------------------------------------------------ adding up


def test_several_voters_are_a_mean_and_a_tie_is_half_a_vote() -> None:
    votes = [vote("a", "b", 1, "x"), vote("a", "b", 1, "y"), vote("a", "b", 0, "z"), vote("b", "c", 2, "x")]
    assert wins_of(votes) == {("a", "b"): pytest.approx(5 / 6), ("b", "c"): 0.0}
    assert counts_of(votes) == {("a", "b"): (2.5, 0.5), ("b", "c"): (0.0, 1.0)}
    assert wins_of([vote("a", "b", 0)]) == {("a", "b"): 0.5}


def test_a_voter_counts_once_by_the_last_word() -> None:
    votes = [vote("a", "b", 1), vote("c", "d", 1), vote("a", "b", 2)]
    assert wins_of(votes) == {("a", "b"): 0.0, ("c", "d"): 1.0}
    assert [pair for _, pair in standing(votes)] == [("c", "d"), ("a", "b")]


def test_what_is_taken_back_is_as_if_never_said() -> None:
    votes = [vote("a", "b", 1, "x"), vote("a", "b", 2, "y"), vote("a", "b", None, "x")]
    assert wins_of(votes) == {("a", "b"): 0.0}
    assert wins_of([*votes, vote("a", "b", None, "y")]) == {}


def test_the_other_way_round_is_the_same_pair() -> None:
    votes = [vote("a", "b", 1, "x"), vote("b", "a", 1, "y"), vote("b", "a", 0, "z")]
    wins = wins_of(votes)
    assert wins == {("a", "b"): 0.5}
    assert wins_of([vote("a", "b", 1), vote("b", "a", None)]) == {}
    (turned,) = standing([vote("a", "b", 1, "x"), vote("b", "a", 1, "y")][1:]).values()
    assert (turned.first, turned.result) == ("b", 1)


def test_a_share_is_found_either_way() -> None:
    wins = {("a", "b"): 0.75}
    assert (share_of(wins, "a", "b"), share_of(wins, "b", "a"), share_of(wins, "a", "c")) == (0.75, 0.25, None)


def test_win_rates_are_means_over_those_that_were_met() -> None:
    wins = {("a", "b"): 1.0, ("a", "c"): 0.5, ("c", "b"): 1.0, ("x", "y"): 1.0}
    assert win_rates(wins, ["a", "b", "c", "d"]) == {"a": 0.75, "b": 0.0, "c": 0.75}


def test_the_file_reads_back(tmp_path: Path) -> None:
    votes = [vote("a", "b", 1, prompt="Ein schöner\nHund \u2028 \ud800"), vote("a", "b", None)]
    (tmp_path / "votes.jsonl").write_bytes(lines(votes) + b"\n")
    found = read_votes(tmp_path)
    assert found[0].prompt == "Ein schöner\nHund \u2028 ?"
    assert found[1] == votes[1]
    assert read_votes(tmp_path / "votes.jsonl") == found


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ("nonsense\n", "is no vote; expected JSON"),
        ("[1]\n", "is no vote; expected JSON"),
        ('{"first": "a"}\n', "is no vote; expected JSON"),
        ('{"first": "a", "second": "a", "prompt": "", "result": 1, "voter": "x", "time": ""}\n', "between two"),
        ('{"first": 1, "second": "a", "prompt": "", "result": 1, "voter": "x", "time": ""}\n', "between two"),
        ('{"first": "b", "second": "a", "prompt": "", "result": 3, "voter": "x", "time": ""}\n', "result is 3"),
        ('{"first": "b", "second": "a", "prompt": "", "result": true, "voter": "x", "time": ""}\n', "result is True"),
        ("something else", "is no vote; expected JSON"),
    ],
)
def test_a_line_that_is_no_vote_is_named(tmp_path: Path, spoilt: str, says: str) -> None:
    (tmp_path / "votes.jsonl").write_bytes(lines([vote("a", "b", 1)]) + spoilt.encode())
    with pytest.raises(ValueError, match=rf"votes\.jsonl, line 2.*{says}"):
        read_votes(tmp_path)


def test_no_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mmpo vote DATA"):
        read_votes(tmp_path)
    with pytest.raises(ValueError, match="--write"):
        read_scores(tmp_path)


# ------------------------------------------------------------------------------------------------------- the file


def test_a_kill_at_any_byte_loses_the_line_that_was_being_written_alone(tmp_path: Path) -> None:
    first, second, third = vote("a", "b", 1), vote("b", "c", 2), vote("c", "d", 0)
    whole = lines([first, second])
    for cut in (len(first.line()), *range(len(first.line()) + 1, len(whole) - 1, 11), len(whole) - 2, len(whole) - 1):
        (tmp_path / "votes.jsonl").write_bytes(whole[:cut])
        kept = [first, second] if cut >= len(whole) - 1 else [first]
        assert read_votes(tmp_path) == kept
        with open_log(tmp_path) as log:
            assert log.votes == kept
            log.add(third)
        assert (tmp_path / "votes.jsonl").read_bytes() == lines([*kept, third])


def test_each_line_is_on_the_disk_before_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)
        fsync(handle)

    with open_log(tmp_path) as log:
        monkeypatch.setattr(os, "fsync", seen)
        log.add(vote("a", "b", 1))
    assert synced == [len(vote("a", "b", 1).line())]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_log(tmp_path) as log:
        log.add(vote("a", "b", 1))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space.*votes\.jsonl"):
            log.add(vote("a", "b", 2))
        monkeypatch.undo()
        assert log.votes == [vote("a", "b", 1)]
    assert read_votes(tmp_path) == [vote("a", "b", 1)]


def test_two_at_once_are_refused_and_nothing_is_left_where_nobody_voted(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with open_log(tmp_path), pytest.raises(ValueError, match="another `mmpo vote`"), open_log(tmp_path):
        raise AssertionError
    assert not (tmp_path / "votes.jsonl").exists()


# ------------------------------------------------------------------------------------------------------- the order


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 13])
def test_every_couple_once_and_those_shown_least_first(count: int) -> None:
    for seed in "abcd":
        order = spread_couples(count, seed)
        assert sorted(order) == list(itertools.combinations(range(count), 2))
        for asked in range(1, len(order) + 1):
            uses = Counter(itertools.chain.from_iterable(order[:asked]))
            assert len(uses) >= min(count, 2 * asked)
        assert max(uses.values()) == min(uses.values()) == count - 1
        half = Counter(itertools.chain.from_iterable(order[: len(order) // 2]))
        assert max(half[k] for k in range(count)) - min(half[k] for k in range(count)) <= 2


def named(*sizes: int) -> list[tuple[str, list[str]]]:
    return [(f"g{at}", [f"{at}-{k}" for k in range(size)]) for at, size in enumerate(sizes)]


def test_questions_of_a_prompt_come_together_in_an_order_that_the_seed_decides() -> None:
    groups = named(*[3] * 20)
    asked = schedule(groups, seed=0)
    order = [group for group, _ in itertools.groupby(question.group for question in asked)]
    assert sorted(order) == list(range(20))
    assert asked == schedule(groups, seed=0)
    assert order != [group for group, _ in itertools.groupby(q.group for q in schedule(groups, seed=1))]
    assert order != list(range(20))
    assert Counter(question.group for question in schedule(groups, seed=0, per_prompt=2)) == dict.fromkeys(range(20), 2)


def test_the_coin_is_fair_and_each_voter_has_their_own() -> None:
    groups = named(*[2] * 1000)
    mine, yours = (schedule(groups, seed=0, voter=voter) for voter in ("me", "you"))
    assert [question[:3] for question in mine] == [question[:3] for question in yours]
    assert 440 <= sum(question.swapped for question in mine) <= 560  # four deviations
    assert 440 <= sum(a.swapped != b.swapped for a, b in zip(mine, yours, strict=True)) <= 560


def test_where_a_prompt_stands_in_the_data_decides_nothing() -> None:
    groups = named(3, 2, 4)
    there = [(groups[q.group][0], q.first, q.second, q.swapped) for q in schedule(groups, seed=3)]
    back = groups[::-1]
    assert [(back[q.group][0], q.first, q.second, q.swapped) for q in schedule(back, seed=3)] == there


def test_prompts_that_too_few_questions_do_not_show_whole() -> None:
    assert [unseen(named(2, 4, 5), few) for few in (None, 1, 2, 3)] == [0, 2, 1, 0]
