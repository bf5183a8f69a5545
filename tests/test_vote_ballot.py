"""What a voter is asked: from which data, in what state after which answers, and what is written of them."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from vote_files import PROMPTS, sample_id, samples, vote

from mmpo.data.candidates import open_candidates
from mmpo.data.images import decode
from mmpo.data.list_scores import list_scores
from mmpo.data.readers import ReadReport, open_pairs, read_open
from mmpo.data.rollouts import Row
from mmpo.data.shards import read_done, read_rows
from mmpo.data.vote_log import open_log
from mmpo.data.vote_schedule import schedule
from mmpo.data.vote_shares import vote_share, vote_weight
from mmpo.data.vote_wins import read_scores, read_votes, wins_of
from mmpo.files import write_json
from mmpo.records import Group, Prompt
from pipelines.rollout_votes import judge_by_votes, votes_so_far, write_images
from pipelines.vote_ballot import Ballot, Stale, check_votes
from pipelines.vote_data import VoteData, vote_data
from pipelines.vote_write import write_votes


@contextmanager
def opened(data: Path) -> Iterator[VoteData]:
    with vote_data(open_candidates(str(data)), str(data)) as found:
        yield found


@contextmanager
def asking(
    data: Path, output: Path, voter: str = "me", seed: int = 0, per_prompt: int | None = None
) -> Iterator[Ballot]:
    with ExitStack() as stack:
        found = stack.enter_context(opened(data))
        log = stack.enter_context(open_log(output))
        clock = itertools.count()
        questions = schedule(found.named(), seed=seed, voter=voter, per_prompt=per_prompt)
        yield Ballot(found, questions, log, voter, lambda: f"t{next(clock)}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return samples(tmp_path / "samples")


# ------------------------------------------------------------------------------------------------------------ data


def test_samples_are_known_by_the_ids_of_their_rows(data: Path) -> None:
    with opened(data) as found:
        assert [[member.id for member in group] for group in found.groups] == [
            [sample_id(prompt, number) for number in range(count)] for prompt, count in PROMPTS.items()
        ]
        assert found.images.read(found.groups[1][0].image) == tiny.picture(3)


def test_a_prompt_is_one_group_wherever_its_images_stand(data: Path, tmp_path: Path) -> None:
    scattered = samples(tmp_path / "scattered", by_seed=True)
    with opened(data) as one, opened(scattered) as other:
        assert one.named() == other.named()


def test_rows_without_an_id_of_ours_are_known_by_key_and_a_repeated_id_is_none(tmp_path: Path) -> None:
    given: list[tuple[str, str | None]] = [("x", None), ("x", "7"), ("y", "a" * 24), ("y", "a" * 24)]
    rows = [
        {"id": name, "prompt": prompt, "image": {"bytes": tiny.picture(at), "path": None}}
        for at, (prompt, name) in enumerate(given)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with opened(tmp_path / "rows.parquet") as found:
        ids = [member.id for group in found.groups for member in group]
        keys = [member.candidate.key for group in found.groups for member in group]
    assert ids == [keys[0], keys[1], "a" * 24, keys[3]]
    assert len(set(ids)) == 4


def test_a_folder_of_captioned_images_and_what_cannot_be_shown(tmp_path: Path) -> None:
    for name, prompt, image in (("a", "cat", 0), ("b", "cat", 1), ("c", "cat", 0), ("d", "dog", 2), ("e", "cat", None)):
        data = b"no image at all" if image is None else tiny.picture(image)
        (tmp_path / f"{name}.png").write_bytes(data)
        (tmp_path / f"{name}.txt").write_text(prompt)
    with opened(tmp_path) as found:
        ((first, second),) = found.groups
        assert (first.candidate.prompt, second.candidate.image) == ("cat", b"")
        assert found.alone == 1
        (message,) = found.bad
        assert "e.png" in message
        assert "not an image file" in message


def test_what_a_browser_does_not_show_is_shown_as_png(tmp_path: Path) -> None:
    rows = []
    for at in range(2):
        buffer = io.BytesIO()
        decode(tiny.picture(at)).save(buffer, "TIFF")
        rows.append({"prompt": "cat", "image": {"bytes": buffer.getvalue(), "path": None}})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with opened(tmp_path / "rows.parquet") as found:
        kind, shown = found.images.shown(0)
    assert (kind, shown[:4]) == ("image/png", b"\x89PNG")
    assert decode(shown).tobytes() == decode(tiny.picture(0)).tobytes()


def test_nothing_to_compare_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="each of its 2 prompts has a single candidate"),
        opened(samples(tmp_path / "one", {"a cat": 1, "a dog": 1})),
    ):
        raise AssertionError
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"broken")
    (tmp_path / "broken" / "x.txt").write_text("cat")
    with (
        pytest.raises(ValueError, match="no image or answer in it can be shown; 1 cannot"),
        opened(tmp_path / "broken"),
    ):
        raise AssertionError


# ---------------------------------------------------------------------------------------------------------- ballot


def images_of(state: dict[str, Any]) -> tuple[int, int]:
    first, second = state["question"]["sides"]
    return first["image"], second["image"]


def test_what_is_shown_first_and_preferred_wins_whichever_it_is(tmp_path: Path) -> None:
    """Who always takes the lower image number, wherever it is shown, prefers each prompt's earlier candidates."""
    prompts = {f"cat {number}": 2 for number in range(12)}
    with asking(samples(tmp_path / "samples", prompts), tmp_path / "votes") as ballot:
        state = ballot.state()
        lefts = []
        while state["question"] is not None:
            first, second = images_of(state)
            lefts.append(first < second)
            state = ballot.vote(state["number"], 1 if first < second else 2)
    assert (state["done"], state["total"], state["number"]) == (12, 12, None)
    assert set(lefts) == {True, False}
    votes = read_votes(tmp_path / "votes")
    assert set(wins_of(votes).values()) == {1.0}
    assert [one.left == 1 for one in votes] == lefts
    assert all(one.result == 1 and one.voter == "me" for one in votes)
    assert [one.time for one in votes] == [f"t{k}" for k in range(12)]
    assert {one.prompt for one in votes} == {*prompts}


def test_a_tie_is_a_tie_on_either_side(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        for _ in range(5):
            ballot.vote(ballot.state()["number"], 0)
        assert set(wins_of(ballot.votes).values()) == {0.5}


def test_closing_and_starting_again_goes_on(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "whole") as ballot:
        states = [ballot.state()]
        while states[-1]["number"] is not None:
            states.append(ballot.vote(states[-1]["number"], 1))
    assert len(states) == 6
    for expected in states:
        with asking(data, tmp_path / "parts") as ballot:
            assert ballot.state() == expected
            if expected["number"] is not None:
                ballot.vote(expected["number"], 1)


def test_another_order_goes_on_with_what_is_left(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        for _ in range(3):
            ballot.vote(ballot.state()["number"], 1)
    with asking(data, tmp_path / "votes", seed=7) as ballot:
        assert (ballot.state()["done"], ballot.state()["total"]) == (3, 5)
        for _ in range(2):
            ballot.vote(ballot.state()["number"], 1)
        assert ballot.state()["number"] is None
    assert len(wins_of(read_votes(tmp_path / "votes"))) == 5


def test_taking_back_is_another_line_and_asks_again(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        assert not ballot.state()["undo"]
        first, second = 0, ballot.vote(0, 1)["number"]
        ballot.vote(second, 2)
        back = ballot.undo(ballot.state()["number"])
        assert (back["number"], back["done"], back["undo"]) == (second, 1, True)
        back = ballot.undo(second)
        assert (back["number"], back["done"], back["undo"]) == (first, 0, False)
        with pytest.raises(Stale):
            ballot.undo(first)
        ballot.vote(first, 0)
    votes = read_votes(tmp_path / "votes")
    assert [one.result is None for one in votes] == [False, False, True, True, False]
    assert [*wins_of(votes).values()] == [0.5]


def test_the_last_answer_of_an_earlier_call_can_be_taken_back(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        for _ in range(5):
            last = ballot.state()["number"]
            ballot.vote(last, 1)
    with asking(data, tmp_path / "votes") as ballot:
        assert ballot.undo(None)["number"] == last
    with asking(data, tmp_path / "votes") as ballot:
        assert ballot.state()["number"] == last


@pytest.mark.parametrize("seed", range(1, 5))
def test_in_another_order_too_what_was_taken_back_is_asked_first(data: Path, tmp_path: Path, seed: int) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        ballot.vote(0, 1)
        asked = images_of(ballot.state())
        ballot.vote(1, 1)
    with asking(data, tmp_path / "votes", seed=seed) as ballot:
        assert set(images_of(ballot.undo(ballot.state()["number"]))) == set(asked)


def test_an_answer_to_another_question_counts_for_nothing(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes") as ballot:
        ballot.vote(0, 1)
        for number in (0, 2, -1, 99):
            with pytest.raises(Stale):
                ballot.vote(number, 1)
            with pytest.raises(Stale):
                ballot.undo(number)
        assert len(ballot.votes) == 1


def test_each_voter_answers_all_and_cannot_take_back_anothers(data: Path, tmp_path: Path) -> None:
    with asking(data, tmp_path / "votes", "x") as ballot:
        ballot.vote(0, 1)
    with asking(data, tmp_path / "votes", "y") as ballot:
        assert (ballot.state()["done"], ballot.state()["undo"]) == (0, False)


def test_an_answer_that_cannot_be_kept_leaves_the_question(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with asking(data, tmp_path / "votes") as ballot:
        before = ballot.state()
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            ballot.vote(0, 1)
        assert ballot.state() == before


def test_votes_on_other_data_are_refused(data: Path, tmp_path: Path) -> None:
    known = [vote(sample_id("a cat", 0), sample_id("a cat", 1), 1)]
    with opened(data) as found:
        check_votes(known, found, tmp_path / "votes.jsonl")
        with pytest.raises(ValueError, match=r"votes\.jsonl: 1 of 2 are on candidates.*'a fish'"):
            check_votes([*known, vote("x", "y", 1, prompt="a fish")], found, tmp_path / "votes.jsonl")


# --------------------------------------------------------------------------------------------------------- written


def read(folder: Path, lists: bool) -> list[Group]:
    """As training reads them."""
    report = ReadReport()
    groups = list(read_open(open_pairs(str(folder), lists=lists), report=report))
    assert not report.bad
    return groups


CATS = [sample_id("a cat", k) for k in range(3)]
DOGS = [sample_id("a dog", k) for k in range(2)]
HATS = [sample_id("a hat", k) for k in range(2)]
VOTES = [
    *(vote(CATS[1], CATS[0], 1, voter) for voter in "xy"),
    vote(CATS[1], CATS[0], 2, "z"),
    vote(CATS[1], CATS[2], 1),
    vote(CATS[2], CATS[0], 0),
    vote(DOGS[0], DOGS[1], 2, prompt="a dog"),
    vote(HATS[0], HATS[1], 0, prompt="a hat"),
]


def test_pairs_and_lists_are_what_training_reads(data: Path, tmp_path: Path) -> None:
    """Cats: 1 beats 0 by 2 of 3 and 2 by 1 of 1, 2 and 0 tie: mean shares 5/12, 5/6, 1/4."""
    with opened(data) as found:
        written = write_votes(found, VOTES, tmp_path / "votes", "the data")
    assert next(iter(written.lines())) == "7 votes of 4 voters on 7 candidates"
    pairs, lists = (read(tmp_path / "votes" / name, name == "lists") for name in ("pairs", "lists"))
    pictures = [[candidate.image for candidate in group.candidates] for group in pairs]
    assert pictures == [[tiny.picture(a), tiny.picture(b)] for a, b in ((1, 0), (1, 2), (4, 3))]
    assert [vote_share(group) for group in pairs] == [pytest.approx(2 / 3), 1.0, 1.0]
    assert [vote_weight(group) for group in pairs] == [3.0, 1.0, 1.0]
    cats, dogs = lists
    assert [candidate.image for candidate in cats.candidates] == [tiny.picture(k) for k in (1, 0, 2)]
    assert cats.rank == [1, 2, 3]
    assert cats.scores["preference_share"] == pytest.approx([5 / 6, 5 / 12, 1 / 4])
    assert list_scores(cats, "wins") == (1.0, 0.5, 0.0)
    assert (dogs.rank, vote_share(dogs)) == ([1, 2], 1.0)
    row = next(row for _, row in read_rows(tmp_path / "votes" / "pairs"))
    assert (row["key"], row["split"], row["agreement"]) == ("key of a cat", "train", pytest.approx(2 / 3))
    assert json.loads(row["provenance"]) == [{"seed": 1}, {"seed": 0}]
    done = read_done(tmp_path / "votes" / "pairs")
    assert done == {"settings": {"made by": "mmpo vote", "data": "the data", "format": "pairs"}, "summary": {"rows": 3}}
    assert read_scores(tmp_path / "votes")[CATS[1]] == pytest.approx(5 / 6)
    assert read_scores(tmp_path / "votes")[HATS[0]] == 0.5


def test_writing_again_replaces_ours_and_nothing_elses(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "votes"
    cycle = [vote(CATS[0], CATS[1], 1), vote(CATS[1], CATS[2], 1), vote(CATS[2], CATS[0], 1)]
    with opened(data) as found:
        write_votes(found, VOTES, out, "d")
        assert write_votes(found, cycle, out, "d").counts["lists"] == 0
        assert len(read(out / "pairs", False)) == 3
        assert not (out / "lists").exists()
        (out / "lists").mkdir()
        (out / "lists" / "mine.txt").write_text("mine")
        with pytest.raises(ValueError, match="lists: is not of mmpo vote"):
            write_votes(found, VOTES, out, "d")
    assert (out / "lists" / "mine.txt").read_text() == "mine"
    assert len(read(out / "pairs", False)) == 3


@pytest.mark.parametrize(
    ("votes", "says"),
    [([], "nobody voted yet"), ([vote(CATS[0], CATS[1], 0)], "ties"), ([vote(CATS[0], CATS[1], None)], "nobody")],
)
def test_without_a_preference_nothing_is_written(data: Path, tmp_path: Path, votes: list[Any], says: str) -> None:
    with opened(data) as found, pytest.raises(ValueError, match=says):
        write_votes(found, votes, tmp_path / "votes", "d")
    assert not (tmp_path / "votes").exists()


def test_a_training_reads_the_votes_on_its_round(tmp_path: Path) -> None:
    """Two comparisons of one prompt: each is asked alone, and decided by its votes."""
    folder = tmp_path / "round-00000"
    rows = [Row(name, "a cat", "", "train", 0) for name in ("one", "two")]
    images = [decode(tiny.picture(at)) for at in range(4)]
    write_json(folder / "about.json", {"identity": "these weights"})
    write_images(folder, 0, rows, [Prompt("a cat")] * 2, images)
    assert votes_so_far(folder, folder / "votes") is None
    with asking(folder / "images", folder / "votes") as ballot:
        assert ballot.state()["total"] == 2
        while (state := ballot.state())["number"] is not None:
            better = {(0, 1): 1, (2, 3): 2}[tuple(sorted(images_of(state)))]
            first = images_of(state)[0] in (0, 2)
            ballot.vote(state["number"], better if first else 3 - better)
    told = votes_so_far(folder, folder / "votes")
    assert told is not None
    judge = judge_by_votes(folder, folder / "votes", told)
    assert [judge(row, torch.zeros(0, 2)).tolist() for row in rows] == [
        [[False, True], [False, False]],
        [[False, False], [True, False]],
    ]


def test_answers_are_compared_about_their_image(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is it?", "image": {"bytes": tiny.picture(at // 3), "path": None}, "response": f"A {text}."}
        for at, text in enumerate(("cat", "dog", "hat", "cat", "dog"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "answers.parquet")
    with asking(tmp_path / "answers.parquet", tmp_path / "votes") as ballot:
        state = ballot.state()
        assert (state["total"], state["kind"]) == (4, "answers")
        assert {side["text"] for side in state["question"]["sides"]} < {"A cat.", "A dog.", "A hat."}
        while (state := ballot.state())["question"] is not None:
            first, second = (side["text"] for side in state["question"]["sides"])
            ballot.vote(state["number"], 1 if first < second else 2)
        votes = ballot.votes
    with opened(tmp_path / "answers.parquet") as found:
        write_votes(found, votes, tmp_path / "votes", "d")
    pairs, lists = ([row for _, row in read_rows(tmp_path / "votes" / name)] for name in ("pairs", "lists"))
    assert {(row["chosen"], row["rejected"]) for row in pairs} >= {("A cat.", "A dog."), ("A dog.", "A hat.")}
    assert pairs[0]["images"][0]["bytes"] == tiny.picture(0)
    assert {tuple(row["responses"]) for row in lists} == {("A cat.", "A dog.", "A hat."), ("A cat.", "A dog.")}
