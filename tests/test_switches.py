"""Switches for memory and speed: each trains as the plain run does, within what it states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_list_batches import write_lists

from mmpo.recipe_files import validate
from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints
from mmpo.training.metrics import read_metrics
from pipelines.train import train


def lines(folder: Path) -> list[dict[str, float]]:
    return [line for line in read_metrics(folder) if "loss" in line]


def weights(folder: Path) -> torch.Tensor:
    """All trained weights of the newest checkpoint in one vector."""
    tensors = load_checkpoint(list_checkpoints(folder)[-1]).tensors["weights"]
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def tree(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Six steps in float64, where two ways to one gradient agree to rounding."""
    return tiny.recipe_tree(model, data, output, **{"train__precision": "fp64", "train__steps": 6, **changes})


@pytest.mark.parametrize("loss", ["dpo", "rank_dpo", "diffusion_kto", "minor_dpo"])
def test_candidate_by_candidate_gives_the_same_training(loss: str, sd_folder: Path, tmp_path: Path) -> None:
    """Three steps of a ragged batch in two micro-batches: equal weights, and equal metrics."""
    data = write_lists(tmp_path / "data", [2, 4, 3, 3, 2, 4, 3, 2])
    ends = []
    for name, switch in (("whole", False), ("one", True)):
        changes = {"train__one_candidate_at_a_time": switch, "train__micro_batch_size": 2, "model__lora": None}
        changes |= {"train__steps": 3, "train__checkpoint_every": 3}
        recipe = tree(sd_folder, data, tmp_path / name, **changes, optim__lr=1e-4)
        recipe["method"] = {"loss": loss}
        folder = train(validate(recipe))
        ends.append((weights(folder), lines(folder)))
    (whole, first), (one, second) = ends
    assert (whole - one).abs().max() <= 1e-9
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] == pytest.approx(b[name], rel=1e-6, abs=1e-9) for name in a if name != "pairs_per_second")


def test_candidate_by_candidate_refuses_what_differs_between_two_forwards(sd_folder: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"model__lora": {"rank": 2, "dropout": 0.1}}, "model.lora.dropout 0.1 would differ"),
        ({"method__loss": "dspo"}, "loss 'dspo' needs whole predictions"),
    ):
        with pytest.raises(ValueError, match=message):
            validate(tree(sd_folder, tmp_path, tmp_path / "run", train__one_candidate_at_a_time=True, **changes))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_cached_reference_gives_the_loss_of_a_live_one(
    kind: str, sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    """As long as no draw repeats, the losses agree within 1e-4 of the logit at β 5000, in float32."""
    runs = {}
    for name, draws in (("live", 0), ("cached", 9), ("again", 9)):
        changes = {"model__lora": {"rank": 4} if kind == "lora" else None, "train__precision": "fp32"}
        recipe = tree(sd_folder, pairs_folder, tmp_path / name, **changes, data__cache=str(tmp_path / "cache"))
        recipe["method"] = {"loss": "dpo", "beta": 5000, "cache_reference": draws}
        runs[name] = lines(train(validate(recipe)))
    for live, cached in zip(runs["live"], runs["cached"], strict=True):
        assert cached["rewards/margins"] == pytest.approx(live["rewards/margins"], abs=1e-4)
        assert cached["loss"] == pytest.approx(live["loss"], abs=1e-4)
    assert runs["cached"] == [
        line | {"pairs_per_second": old["pairs_per_second"]}
        for line, old in zip(runs["again"], runs["cached"], strict=True)
    ]
    assert len(list((tmp_path / "cache").glob("reference-*"))) == 1


def test_a_full_fine_tune_with_a_cached_reference_holds_no_copy_and_resumes(
    sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    whole = tree(sd_folder, pairs_folder, tmp_path / "whole", model__lora=None, method__cache_reference=2)
    half = tree(sd_folder, pairs_folder, tmp_path / "half", model__lora=None, method__cache_reference=2, train__steps=3)
    assert build(whole).reference is None
    train(validate(whole))
    train(validate(half))
    assert not torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "half"))
    half["train"]["steps"] = 6
    train(validate(half), resume=True)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "half"))


def build(recipe_tree: dict[str, Any]) -> Any:
    """The parts of a run."""
    from mmpo.models.checkpoint import read_config
    from pipelines.build import build_accelerator, build_run

    recipe = validate(recipe_tree)
    folder = Path(recipe.output)
    return build_run(recipe, read_config(recipe.model.path), build_accelerator(recipe), folder, lambda text: None)[0]


def test_draws_repeat_after_as_many_visits_as_are_cached(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """Frozen weights (a rate of 1e-30) show it: the errors of one group come back, which live draws never do."""
    errors = {}
    for draws in (0, 1):
        recipe = tree(sd_folder, pairs_folder, tmp_path / str(draws), optim__lr=1e-30, data__limit=1)
        recipe["method"] = {"cache_reference": draws}
        recipe["train"]["batch_size"] = 1
        recipe["evaluation"] |= {"held_out_pairs": 0}
        errors[draws] = [line["errors/chosen"] for line in lines(train(validate(recipe)))]
    assert len(set(errors[0])) == 6
    assert len(set(errors[1])) == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"loss": "dspo", "cache_reference": 2}, "cache_reference: loss 'dspo' asks the reference for more"),
        ({"loss": "kto", "cache_reference": 2}, "cache_reference: loss 'kto' asks the reference for more"),
        ({"offload_reference": True, "reference": "adapters_off"}, "reference adapters_off holds no second model"),
    ],
)
def test_references_that_cannot_be(method: dict[str, Any], message: str, sd_folder: Path, tmp_path: Path) -> None:
    recipe = tree(sd_folder, tmp_path, tmp_path / "run") | {"method": method}
    with pytest.raises(ValueError, match=message):
        validate(recipe)


@pytest.mark.parametrize(
    "changes",
    [{"train__channels_last": True}, {"method__offload_reference": True, "model__lora": None}],
    ids=["channels_last", "offload"],
)
def test_a_layout_and_a_place_change_nothing(
    changes: dict[str, Any], sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    plain = {name: value for name, value in changes.items() if name == "model__lora"}
    first = train(validate(tree(sd_folder, pairs_folder, tmp_path / "a", **plain)))
    second = train(validate(tree(sd_folder, pairs_folder, tmp_path / "b", **changes)))
    assert (weights(first) - weights(second)).abs().max() <= 1e-9
    assert lines(second)[0]["rewards/margins"] == 0.0


def test_eight_bit_moments_train_and_resume(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """Moments of tensors of 4096 numbers and more are bytes, and a resume puts them back exactly."""
    if not os.environ.get("MMPO_TEST_QUANT"):  # scripts/test_quant.sh, which .ci/run calls, gets it and insists
        pytest.importorskip("bitsandbytes")
    changes = {"optim__eight_bit": True, "train__precision": "fp32", "model__lora": None}
    whole = train(validate(tree(sd_folder, pairs_folder, tmp_path / "whole", **changes)))
    state = load_checkpoint(list_checkpoints(whole)[-1]).tensors["optimizer"]
    assert any(tensor.dtype == torch.uint8 for tensor in state.values())
    half = tree(sd_folder, pairs_folder, tmp_path / "half", **{**changes, "train__steps": 3})
    train(validate(half))
    half["train"]["steps"] = 6
    train(validate(half), resume=True)
    assert torch.equal(weights(whole), weights(tmp_path / "half"))


def test_a_missing_package_is_named(
    sd_folder: Path, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match=r"optim\.eight_bit: needs bitsandbytes; pip install 'mmpo\[quant\]'"):
        train(validate(tree(sd_folder, pairs_folder, tmp_path / "run", optim__eight_bit=True)))
