"""What a recipe on own samples refuses, and with what words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sampling_parts import SPO, STEP_WISE, rollout_tree

from mmpo.models.checkpoint import read_config
from mmpo.recipe_files import validate
from pipelines.build import build_adapter
from pipelines.build_rollout import stepper_of
from pipelines.checks import check_recipe

of = pytest.mark.parametrize


def changed(tmp_path: Path, section: str = "rollout", **changes: Any) -> dict[str, Any]:
    """A small recipe with other keys of one section; a value of ... takes the key out."""
    tree = rollout_tree("shapes/sd", tmp_path / "run")
    tree[section] = {key: value for key, value in {**tree[section], **changes}.items() if value is not ...}
    return tree


@of("value", [0, 0.0])
def test_a_sampler_without_noise_is_refused_with_what_to_use_instead(value: float, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"sampling.eta: 0 makes the sampler an ODE.*1 for diffusion, 0.7 for flow.*"
        r"stored pairs",
    ):
        validate(changed(tmp_path, sampling={"eta": value}))


@of(
    ("changes", "message"),
    [
        ({"candidate": 4}, "rollout.candidate: .*candidates"),
        ({"sampling": {"stepz": 4}}, "rollout.sampling.stepz: .*steps"),
        ({"prompts": ...}, "rollout.prompts: "),
        ({"candidates": 1}, "rollout.candidates: "),
        ({"sampling": {"eta": -1}}, "rollout.sampling.eta: "),
        ({"rewards": []}, "rewards: name what decides between candidates, or set labels: votes"),
        ({"labels": "votes"}, "labels: votes are for whole trajectories, without rewards"),
        ({"labels": "votes", "rewards": [], **STEP_WISE}, "labels: votes are for whole trajectories"),
        ({"votes": "votes.jsonl"}, "votes: is for labels: votes"),
        ({**STEP_WISE, "rewards": ["random", "shapes"]}, "rewards: step_wise compares by one reward"),
        ({**STEP_WISE, "first_step": 3}, "first_step: 3 leaves no step of 3 to compare"),
        ({**STEP_WISE, "threshold": [0.5, 0.35]}, r"threshold: expected \[low, high\], got \[0.5, 0.35\]"),
        ({**STEP_WISE, "threshold": 1.5}, "rollout.threshold"),
        ({"threshold": 0.3}, "threshold: is for kind: step_wise; leave it out"),
        ({"inner_steps": 4}, "inner_steps: is for kind: step_wise; leave it out"),
        ({"first_step": 2}, "first_step: is for kind: step_wise; leave it out"),
        ({"score_scale": 10}, "score_scale: is for kind: step_wise; leave it out"),
        ({**STEP_WISE, "train_steps": 2}, "train_steps: is for kind: trajectories; leave it out"),
        ({**STEP_WISE, "start": "own"}, "start: is for kind: trajectories; leave it out"),
    ],
)
def test_rollouts_that_make_no_sense_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        validate(changed(tmp_path, **changes))


@of(
    ("section", "changes", "message"),
    [
        ("data", {"format": "pairs"}, "data.format: is of stored preferences; beside a rollout leave it out"),
        ("data", {"flip": 0.5}, "data.flip: is of stored preferences"),
        ("method", {"adapter": "denoising"}, "method.adapter: 'denoising' is for stored images; a rollout takes"),
        ("method", {"prompt_dropout": 0.1}, "method.prompt_dropout: does not apply to the steps of a sampler"),
        ("method", {"cache_reference": 2}, "method.cache_reference: does not apply"),
        ("method", {"beta": ...}, "method.beta: has no default for a rollout; D3PO has 0.1, SPO 10"),
        ("method", {"loss": "kto"}, "'kto' cannot be fed from a rollout"),
        ("method", {"loss": "dspo", "beta": ...}, "'dspo' cannot be fed from a rollout"),
        ("train", {"distribution": "fsdp2"}, "train: fsdp2 and one_candidate_at_a_time are not for rollouts"),
        ("train", {"one_candidate_at_a_time": True}, "train: fsdp2 and one_candidate_at_a_time"),
    ],
)
def test_what_does_not_go_with_a_rollout_is_refused(
    section: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        validate(changed(tmp_path, section, **changes))


def test_lists_are_not_for_step_wise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step_wise stores best and worst, and 'd3po' takes lists; use clipped_dpo"):
        validate(changed(tmp_path, **STEP_WISE))
    tree = changed(tmp_path, **STEP_WISE)
    assert validate({**tree, "method": SPO}).rollout is not None


def test_a_reference_that_moves_cannot_be_the_base(tmp_path: Path) -> None:
    tree = changed(tmp_path, refresh_reference=1)
    assert validate(tree).rollout is not None
    with pytest.raises(ValueError, match=r"rollout.refresh_reference: adapters_off is the base for good"):
        validate({**tree, "method": {**tree["method"], "reference": "adapters_off"}})


def test_transitions_need_a_rollout(tmp_path: Path) -> None:
    tree = {**changed(tmp_path), "rollout": None, "data": {"path": "pairs"}}
    with pytest.raises(ValueError, match=r"method.adapter: transition takes steps of a sampler; give a rollout"):
        validate({**tree, "method": {"adapter": "transition"}})


@of("kind", ["d3po", "spo"])
def test_a_dumped_recipe_loads_again(kind: str, tmp_path: Path) -> None:
    """What a run writes beside its weights, every default stated, is the recipe it was started with."""
    tree = changed(tmp_path, **(STEP_WISE | {"threshold": [0.35, 0.5]} if kind == "spo" else {}))
    recipe = validate({**tree, "method": SPO if kind == "spo" else tree["method"]})
    dumped = yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert validate(dumped) == recipe


def test_what_is_not_there_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    for changes, message in (
        ({"prompts": str(tmp_path / "none.txt")}, "none.txt"),
        ({"rewards": ["pick_scoer"]}, "pick_scoer"),
    ):
        with pytest.raises(ValueError, match=message):
            check_recipe(validate(changed(tmp_path, **changes)))


@of(("model", "eta", "steps"), [("sd", 1.0, 20), ("sdxl", 1.0, 20), ("sd3", 0.7, 20)])
def test_the_noise_level_goes_by_the_checkpoint(model: str, eta: float, steps: int, tmp_path: Path) -> None:
    """DDPM's for diffusion, Flow-GRPO's for flow; the same sampler for sampling and for training."""
    tree = changed(tmp_path, sampling={})
    recipe = validate({**tree, "model": {"path": f"shapes/{model}"}})
    config = read_config(recipe.model.path)
    made: Any = stepper_of(recipe, config)
    assert (made.eta, made.count) == (eta, steps)
    adapter: Any = build_adapter(recipe, config)
    assert (adapter.guidance, adapter.reduce) == (5.0, "mean")
    assert adapter.stepper.timesteps.equal(made.timesteps)
    assert adapter.stepper.std.equal(made.std)


def test_steps_without_any_noise_are_refused(tmp_path: Path, sd_folder: Path) -> None:
    """One DDIM step of a schedule that begins at timestep 0 goes nowhere."""
    recipe = validate(changed(tmp_path, sampling={"steps": 1}))
    config = read_config(str(sd_folder))
    object.__setattr__(config, "scheduler", {**config.scheduler, "steps_offset": 0})
    with pytest.raises(ValueError, match=r"rollout.sampling.steps: 1 of this schedule have no noise; take more"):
        stepper_of(recipe, config)


def test_the_rounds_are_in_the_runs_folder_unless_the_recipe_says_where(tmp_path: Path) -> None:
    tree = changed(tmp_path)
    assert validate(tree).data.path == f"{tmp_path}/run/rollouts"
    assert validate({**tree, "data": {"path": "elsewhere"}}).data.path == "elsewhere"
    without = {key: value for key, value in tree.items() if key != "data"}
    assert validate(without).data.path == f"{tmp_path}/run/rollouts"
