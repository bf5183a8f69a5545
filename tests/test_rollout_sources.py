"""Rounds that people decide, and rounds of another run, through the ordinary training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow.parquet import read_table
from sampling_parts import rollout_tree

from mmpo.data.rollouts import Comparisons, RolloutGroups, Row, write_comparisons
from mmpo.data.vote_wins import Vote
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from mmpo.training.rounds import Waiting
from pipelines.rollout import clear_other_round, remove_round
from pipelines.train import train


def vote_first(folder: Path, place: Path, *, count: int | None = None) -> None:
    """Somebody prefers the first candidate of the comparisons of a round; the file grows."""
    rows = [row for file in sorted((folder / "images").glob("*.parquet")) for row in read_table(file).to_pylist()]
    of: dict[str, list[str]] = {}
    for row in rows:
        of.setdefault(json.loads(row["provenance"])["comparison"], []).append(row["id"])
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "ab") as out:
        for first, second, *_ in list(of.values())[:count]:
            out.write(Vote(first, second, "a prompt", 1, "ann", "2026-01-01T00:00:00+00:00").line())


def by_votes(model: Path, output: Path, **changes: Any) -> dict[str, Any]:
    tree = rollout_tree(model, output, **{"train__steps": 2, "train__checkpoint_every": 1, **changes})
    tree["rollout"] |= {"labels": "votes", "rewards": [], "prompts_per_round": 2}
    return tree


def test_a_round_waits_for_votes_on_its_own_images_and_keeps_to_them(sd_folder: Path, tmp_path: Path) -> None:
    """Two prompts at three steps: six groups, one step of four. Round 1 is not decided by the votes on round 0."""
    folder, votes = tmp_path / "run", tmp_path / "votes.jsonl"
    tree = by_votes(sd_folder, folder)
    tree["rollout"]["votes"] = str(votes)
    with pytest.raises(Waiting, match=r"round-00000 waits for votes: run `mmpo vote .*images"):
        train(validate(tree))
    vote_first(folder / "rollouts" / "round-00000", votes)
    with pytest.raises(Waiting, match="round-00001 waits"):
        train(validate(tree), resume=True)
    vote_first(folder / "rollouts" / "round-00001", votes)
    train(validate(tree), resume=True)
    told = [line for line in read_metrics(folder) if "rollout/round" in line]
    assert [(line["rollout/groups"], line["rollout/ties"]) for line in told] == [(6, 0), (6, 0)]


def test_votes_that_come_after_a_checkpoint_do_not_change_its_round(sd_folder: Path, tmp_path: Path) -> None:
    """One of two comparisons was voted on when the round began; the other's vote does not count after a resume."""
    folder = tmp_path / "run"
    tree = by_votes(sd_folder, folder, train__steps=1, train__batch_size=2)
    tree["rollout"]["passes"] = 2
    with pytest.raises(Waiting):
        train(validate(tree))
    stored = folder / "rollouts" / "round-00000"
    votes = stored / "votes" / "votes.jsonl"
    vote_first(stored, votes, count=1)
    train(validate(tree), resume=True)
    before = votes.read_bytes()
    vote_first(stored, votes)
    tree["train"]["steps"] = 2  # of the three that two passes over three groups give
    train(validate(tree), resume=True)
    (told,) = [line for line in read_metrics(folder) if "rollout/round" in line]
    assert (told["rollout/groups"], told["rollout/ties"]) == (3, 1)
    assert votes.read_bytes().startswith(before)
    votes.write_bytes(b"\n" + before)
    tree["train"]["steps"] = 3
    with pytest.raises(ValueError, match="does not begin with the votes that round-00000 was trained on"):
        train(validate(tree), resume=True)


def test_what_people_or_others_made_is_not_removed(tmp_path: Path) -> None:
    round_folder = tmp_path / "round-00000"
    clear_other_round(round_folder, "one")
    round_folder.mkdir()
    (round_folder / ".about.json.1.partial").write_text("{")
    clear_other_round(round_folder, "one")
    (round_folder / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"round-00000: it is no round of samples; move it away"):
        clear_other_round(round_folder, "one")
    (round_folder / "about.json").write_text('{"identity": "one"}')
    clear_other_round(round_folder, "one")
    (round_folder / "votes").mkdir()
    with pytest.raises(ValueError, match=r"round-00000: people voted on samples of other weights there"):
        clear_other_round(round_folder, "two")
    (round_folder / "votes").rmdir()
    clear_other_round(round_folder, "two")
    assert not round_folder.exists()


def test_the_ends_of_a_group_were_compared(tmp_path: Path) -> None:
    """Four candidates, 0 over 1 and 2 over 3 alone: a loss of pairs must not take 0 over 3."""
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0], [2.0, 1.0, 4.0, 3.0]])  # two rewards
    made = Comparisons(
        [Row("a", "", "", "", 0)], torch.zeros(1, 4, 2, 1, 1, 1), torch.zeros(1, 4, 1), scores[None], True
    )
    write_comparisons(tmp_path / "chunk-0.safetensors", made)
    wins = (scores.unsqueeze(-1) >= scores.unsqueeze(-2)).all(0) & ~torch.eye(4, dtype=torch.bool)

    class Texts:
        def get(self, text: str) -> dict[str, torch.Tensor]:
            return {"prompt_embeds": torch.zeros(1)}

    groups = RolloutGroups([tmp_path / "chunk-0.safetensors"], Texts(), lambda row, _: wins, lambda row, n: [0])  # type: ignore[arg-type]
    transition = groups.batch([0]).transition
    assert transition is not None
    assert transition.wins[0].sum() == wins.sum() == 2
    assert transition.wins[0, 0, 3]


def test_a_kill_while_a_round_is_removed_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half with its marker of completeness would be trained on."""
    for name in ("round-00000", "round-00001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").write_text("{}")

    def killed(folder: Path, **options: Any) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.rollout.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_round(tmp_path / "round-00000")
    assert [found.name for found in tmp_path.glob("round-*")] == ["round-00001"]
    remove_round(tmp_path / "round-00001")
    assert not list(tmp_path.iterdir())


# ---- rounds of another run ----


def test_rounds_of_another_run_are_trained_on(sd_folder: Path, tmp_path: Path) -> None:
    """The same states give the same first step; nothing is sampled. Other prompts and samplers are refused by name."""
    first = train(validate(rollout_tree(sd_folder, tmp_path / "first", train__steps=3)))
    tree = rollout_tree(sd_folder, tmp_path / "second", train__steps=4)
    tree["rollout"]["stored"] = str(first / "rollouts")
    second = train(validate(tree))
    losses = [[line["loss"] for line in read_metrics(folder) if "loss" in line] for folder in (first, second)]
    assert losses[0] == losses[1][:3]
    assert not (second / "rollouts").exists()
    tree = {**tree, "output": str(tmp_path / "third")}
    tree["rollout"]["sampling"] = {**tree["rollout"]["sampling"], "guidance": 3.0}
    with pytest.raises(ValueError, match=r"rollout.stored .*round-00000: was sampled with sampling .*another sampler"):
        train(validate(tree))
    tree["rollout"]["sampling"]["guidance"] = 2.0
    (tmp_path / "prompts.txt").write_text("a green hat\n")
    tree["data"]["cache"] = str(tmp_path / "cache of another run")
    with pytest.raises(ValueError, match=r"its prompt 'a (red|blue) \w+' is not in rollout.prompts"):
        train(validate(tree))
