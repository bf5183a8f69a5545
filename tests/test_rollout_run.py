"""Runs on own samples: forwards, ratios, rounds that tie, resume inside a round, references that move."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sampling_parts import SPO, STEP_WISE, rollout_tree
from test_training import assert_same, final_weights
from tiny import MAKERS
from torch import Tensor

import rewards
from mmpo.models.checkpoint import read_config
from mmpo.recipe_files import load_recipe, validate
from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints
from mmpo.training.loop import Trainer
from mmpo.training.metrics import read_metrics
from pipelines.build import build_accelerator, build_run
from pipelines.rollout import rounds_of_checkpoints
from pipelines.train import train

ROUND = "rollout/round"


def spo(tree: dict[str, Any]) -> dict[str, Any]:
    """The same recipe with SPO's resampler and loss."""
    return {**tree, "rollout": {**tree["rollout"], **STEP_WISE}, "method": SPO}


def lines(folder: Path, key: str) -> list[dict[str, Any]]:
    """The lines of a run's metrics that have this key."""
    return [line for line in read_metrics(folder) if key in line]


# ---- forwards and ratios ----


class Rows:
    """The rows of a denoiser's forwards: while sampling, of the reference, of the policy."""

    def __init__(self, denoiser: Any) -> None:
        self.sampling: list[int] = []
        self.reference: list[int] = []
        self.policy: list[int] = []
        self._forward, self._denoiser = denoiser.forward, denoiser
        denoiser.forward = self._note

    def _note(self, sample: Tensor, *args: Any, **given: Any) -> Any:
        if torch.is_grad_enabled():
            self.policy.append(len(sample))
        elif self._denoiser.training:
            self.reference.append(len(sample))
        else:
            self.sampling.append(len(sample))
        return self._forward(sample, *args, **given)


def counted(tree: dict[str, Any]) -> Rows:
    """The forwards of a training through the ordinary build and loop."""
    recipe = validate(tree)
    folder = Path(recipe.output)
    run, _ = build_run(recipe, read_config(recipe.model.path), build_accelerator(recipe), folder, lambda text: None)
    rows = Rows(run.policy)
    folder.mkdir(parents=True, exist_ok=True)
    Trainer(run).train()
    return rows


def test_forwards_of_d3po(sd_folder: Path, tmp_path: Path) -> None:
    """Sampling: one a step of a chunk. Training: one of each model for all candidates of a batch of steps.

    A chunk has 2 prompts of 2 candidates, with guidance twice the rows: 4 at the shared start, then 8. A round has 4
    prompts of 3 steps, so 12 groups: 4 of one parent and 8 of two, 20 in all and 40 rows; three steps of 4 train them.
    """
    rows = counted(rollout_tree(sd_folder, tmp_path / "run", train__steps=3))
    assert rows.sampling == [4, 8, 8] * 2
    assert rows.policy == rows.reference
    assert len(rows.policy) == 3
    assert sum(rows.policy) == 2 * (4 + 8 * 2)


def test_forwards_of_spo(sd_folder: Path, tmp_path: Path) -> None:
    """A chunk has 1 prompt of 3 candidates, two comparisons of which winner and loser share one parent."""
    rows = counted(spo(rollout_tree(sd_folder, tmp_path / "run", train__steps=2)))
    assert rows.sampling == [2, 2, 6] * 4  # step 0, step 1 before the branch, x̂0 and the next step of all candidates
    assert rows.policy == rows.reference == [8, 8]  # 4 groups, one parent each, with guidance


def test_a_forward_of_the_sampling_takes_no_more_images_than_the_recipe_says(sd_folder: Path, tmp_path: Path) -> None:
    """Also where a prompt has more candidates than that: three of them, one at a time, of which guidance makes two."""
    tree = spo(rollout_tree(sd_folder, tmp_path / "run", train__steps=1))
    tree["rollout"]["sampling"]["batch_size"] = 1
    rows = counted(tree)
    assert rows.sampling == [2, 2, 2, 2, 2] * 4


@pytest.mark.parametrize("kind", ["lora", "moving", "full"])
def test_ratios_at_the_first_step_of_a_round(kind: str, sd_folder: Path, tmp_path: Path) -> None:
    """To the reference exactly 1 while it is the policy; to the behaviour policy but for the batch's shape."""
    tree = rollout_tree(sd_folder, tmp_path / "run", optim__lr=1e-4 if kind == "full" else 1e-3)
    if kind == "full":
        tree["model"]["lora"] = None
    if kind != "lora":
        tree["rollout"]["refresh_reference"] = 1
    steps = lines(train(validate(tree)), "ratios/reference")
    starts = {line["step"] for line in lines(tmp_path / "run", ROUND)}
    assert starts == {0, 3}
    for line in steps:
        first = line["step"] - 1 in starts
        assert (line["ratios/behaviour"] <= 1e-6) == first
        fresh = first and (kind != "lora" or line["step"] == 1)
        assert (line["ratios/reference"] == 0) == fresh
        assert (line["divergence/reference"] == 0) == fresh


# ---- rounds ----


class Alike:
    """A reward that cannot tell anything apart in some rounds, of one chunk each; the last one stays."""

    name = "alike"

    def __init__(self, rounds: list[bool]) -> None:
        self._rounds, self._calls = rounds, 0

    def score(self, candidates: list[Any], prompts: list[str]) -> list[float]:
        number, self._calls = self._calls, self._calls + 1
        ties = self._rounds[min(number, len(self._rounds) - 1)]
        return [0.0 if ties else float(row) for row in range(len(prompts))]


@pytest.fixture
def reward(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a reward in the place of the recipe's."""
    return lambda made: monkeypatch.setattr(rewards, "load", lambda name, **options: made)


def test_a_round_in_which_everything_ties_trains_nothing_and_the_next_one_follows(
    reward: Callable[[Any], None], sd_folder: Path, tmp_path: Path
) -> None:
    """Its ties are counted; the next prompts are sampled with the same policy."""
    reward(Alike([True, True, False]))
    tree = rollout_tree(sd_folder, tmp_path / "run", train__steps=1)
    tree["rollout"] |= {"prompts_per_round": 2}
    folder = train(validate(tree))
    told = [(line["step"], line[ROUND], line["rollout/ties"], line["rollout/groups"]) for line in lines(folder, ROUND)]
    assert told == [(0, 0, 2, 0), (0, 1, 2, 0), (0, 2, 0, 6)]
    assert len(lines(folder, "loss")) == 1


def test_five_such_rounds_in_a_row_are_an_error(reward: Callable[[Any], None], sd_folder: Path, tmp_path: Path) -> None:
    reward(Alike([True] * 4 + [False] + [True]))
    tree = rollout_tree(sd_folder, tmp_path / "run")
    tree["rollout"] |= {"prompts_per_round": 2}
    with pytest.raises(ValueError, match=r"5 rounds in a row gave nothing to train on.*2 ties.*lower it, raise"):
        train(validate(tree))
    assert [line[ROUND] for line in lines(tmp_path / "run", ROUND)] == list(range(10))  # 4 of ties did not end it
    assert len(lines(tmp_path / "run", "loss")) == 1


def test_a_round_smaller_than_a_batch_gives_one_step(sd_folder: Path, tmp_path: Path) -> None:
    """And passes go over a round's groups several times."""
    tree = rollout_tree(sd_folder, tmp_path / "run", train__steps=2)
    tree["rollout"] |= {"prompts_per_round": 1, "train_steps": 1}
    assert [line["step"] for line in lines(train(validate(tree)), ROUND)] == [0, 1]
    tree = rollout_tree(sd_folder, tmp_path / "twice", train__steps=4)
    tree["rollout"] |= {"prompts_per_round": 2, "passes": 2}
    assert [line["step"] for line in lines(train(validate(tree)), ROUND)] == [0, 3]


def test_fewer_steps_are_drawn_for_each_trajectory(sd_folder: Path, tmp_path: Path) -> None:
    tree = rollout_tree(sd_folder, tmp_path / "run", train__steps=1)
    tree["rollout"] |= {"train_steps": 2}
    (told,) = lines(train(validate(tree)), ROUND)
    assert told["rollout/groups"] == 4 * 2


# ---- resume ----


def moving(model: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Rounds of 3 steps, a reference that is refreshed at each second, a moving average, LoRA dropout."""
    lora = {"rank": 4, "dropout": 0.1}
    settings = {"train__ema": 0.9, "train__steps": 10, "train__checkpoint_every": 2, "model__lora": lora, **changes}
    tree = rollout_tree(model, output, **settings)
    tree["rollout"] |= {"refresh_reference": 2}
    return tree


class Dying:
    """The recipe's reward, but for a call at which the process ends."""

    name = "random"

    def __init__(self, calls: int) -> None:
        self._reward, self._left = REAL("random"), calls
        self.identity = self._reward.identity

    def score(self, candidates: list[Any], prompts: list[str]) -> Any:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._reward.score(candidates, prompts)


REAL = rewards.load


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path) -> Path:
    """Ten uninterrupted steps of rounds 0 to 3."""
    return train(validate(moving(sd_folder, tmp_path_factory.mktemp("rollout") / "whole")))


def assert_same_end(one: Path, other: Path) -> None:
    """All of the state, and what the metrics tell of it."""
    ends = [load_checkpoint(list_checkpoints(folder)[-1]) for folder in (one, other)]
    assert ends[0].step == ends[1].step == 10
    for stem in ends[0].tensors:
        assert_same(dict(ends[0].tensors[stem]), dict(ends[1].tensors[stem]))
    told = [
        [{k: v for k, v in line.items() if k != "pairs_per_second"} for line in read_metrics(folder)]
        for folder in (one, other)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("step", [4, 8])
def test_resume_is_exact(step: int, whole: Path, sd_folder: Path, tmp_path: Path) -> None:
    """Inside a round, and inside one whose reference is no longer the first."""
    folder = tmp_path / "run"
    train(validate(moving(sd_folder, folder, train__steps=step)))
    train(validate(moving(sd_folder, folder)), resume=True)
    assert_same_end(whole, folder)


def test_what_was_sampled_before_a_kill_is_kept(
    reward: Callable[[Any], None], whole: Path, sd_folder: Path, tmp_path: Path
) -> None:
    """Ended in the second chunk of round 2: the first is not sampled again, and the end is the same.

    The reference of rounds 2 and 3 is what the policy was when they began, and checkpoints hold it.
    """
    folder = tmp_path / "run"
    train(validate(moving(sd_folder, folder, train__steps=6)))
    after_six = final_weights(folder)
    for name, tensor in load_checkpoint(list_checkpoints(whole)[-1]).tensors["reference"].items():
        assert torch.equal(tensor, after_six[name.replace(".reference.", ".default.")])
    reward(Dying(1))
    with pytest.raises(KeyboardInterrupt):
        train(validate(moving(sd_folder, folder)), resume=True)
    (marker,) = (folder / "rollouts" / "round-00002").glob("chunk-*.json")
    assert not (folder / "rollouts" / "round-00002" / "done.json").exists()
    before = marker.stat().st_mtime_ns
    reward(Dying(1 + 2))  # the other chunk, and the two of round 3
    train(validate(moving(sd_folder, folder)), resume=True)
    assert not marker.exists() or marker.stat().st_mtime_ns == before
    assert_same_end(whole, folder)


def test_a_checkpoints_round_stays_whatever_came_after_it(
    reward: Callable[[Any], None], whole: Path, sd_folder: Path, tmp_path: Path
) -> None:
    """Rounds 2 and 3 after the last checkpoint, in round 1, do not take its round away; then they are met again."""
    folder = tmp_path / "run"

    def tree(**changes: Any) -> dict[str, Any]:
        made = moving(sd_folder, folder, train__checkpoint_every=100, **changes)
        made["rollout"]["keep_rounds"] = 1
        return made

    train(validate(tree(train__steps=4)))
    assert rounds_of_checkpoints(folder) == {1}
    reward(Dying(3))
    with pytest.raises(KeyboardInterrupt):
        train(validate(tree()), resume=True)
    there = sorted(found.name for found in (folder / "rollouts").iterdir())
    assert there == ["round-00001", "round-00003"]
    reward(Dying(2 + 1))  # round 2 anew, and the chunk of round 3 that is lacking
    train(validate(tree()), resume=True)
    assert_same_end(whole, folder)


def test_resume_without_its_round_names_it(sd_folder: Path, tmp_path: Path) -> None:
    """Gone, or of other weights."""
    folder = tmp_path / "run"
    tree = moving(sd_folder, folder, train__steps=4)
    train(validate(tree))
    stored = folder / "rollouts" / "round-00001"
    for spoil in (
        lambda: (stored / "done.json").write_text('{"settings": {"identity": "another"}}'),
        lambda: shutil.rmtree(stored),
    ):
        spoil()
        with pytest.raises(ValueError, match=r"--resume: .*round-00001 is not the round .*put that folder back"):
            train(validate({**tree, "train": {**tree["train"], "steps": 10}}), resume=True)


def test_a_dumped_recipe_of_a_run_loads_again(whole: Path) -> None:
    """recipe.yaml names every default, and is the recipe."""
    recipe = load_recipe(str(whole / "recipe.yaml"))
    assert recipe.rollout is not None
    assert recipe.rollout.refresh_reference == 2
    assert recipe.data.path == str(whole / "rollouts")


@pytest.mark.parametrize(("model", "kind"), [("sdxl", "spo"), ("sd3", "d3po")])
def test_other_families_train_on_their_own_samples(model: str, kind: str, tmp_path: Path) -> None:
    """SDXL's sizes and crops, SD3's flow: ratios of 1, and weights that move."""
    made = MAKERS[model](tmp_path / model)
    tree = rollout_tree(made, tmp_path / "run", train__steps=2)
    folder = train(validate(spo(tree) if kind == "spo" else tree))
    first, second = lines(folder, "loss")
    assert first["ratios/reference"] == 0
    assert first["ratios/behaviour"] <= 2e-6
    assert second["ratios/reference"] > 0
    weights = load_file(folder / "pytorch_lora_weights.safetensors")
    assert any(tensor.any() for name, tensor in weights.items() if "lora_B" in name or "lora.up" in name)
