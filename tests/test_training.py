"""The loop on tiny random checkpoints: step 0, any checkpoint, what training may and may not change, exact resume."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from mmpo.recipe_files import validate
from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints
from mmpo.training.metrics import read_metrics
from pipelines.train import train


def run(tree: dict[str, Any], *, resume: bool = False) -> Path:
    """Trains a recipe given as dictionaries."""
    return train(validate(tree), resume=resume)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights of the newest checkpoint."""
    return dict(load_checkpoint(list_checkpoints(folder)[-1]).tensors["weights"])


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, pairs_folder: Path) -> Path:
    """Six uninterrupted LoRA steps with dropout and a moving average, so that all of the state matters."""
    return run(lora_tree(sd_folder, pairs_folder, tmp_path_factory.mktemp("lora") / "run"))


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, pairs_folder: Path) -> Path:
    """Six uninterrupted steps of a full fine-tune."""
    return run(full_tree(sd_folder, pairs_folder, tmp_path_factory.mktemp("full") / "run"))


def lora_tree(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A LoRA recipe."""
    lora = {"rank": 4, "dropout": 0.1}
    return tiny.recipe_tree(model, data, output, model__lora=lora, train__ema=0.9, **changes)


def full_tree(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that trains every weight."""
    return tiny.recipe_tree(model, data, output, model__lora=None, optim__lr=1e-4, **changes)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("lora", [{"rank": 4, "targets": "attention_convolutions"}, None], ids=["lora", "full"])
def test_step_0_logit_is_exactly_zero(
    precision: str, lora: dict[str, Any] | None, tmp_path: Path, sd_folder: Path, pairs_folder: Path
) -> None:
    """Policy and reference are the same model before the first update: the logit is 0, the loss ln 2."""
    changes = {"model__lora": lora, "train__precision": precision, "train__steps": 1, "evaluation__held_out_pairs": 0}
    folder = run(tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", **changes))
    (first,) = read_metrics(folder)
    assert first["rewards/chosen"] == first["rewards/rejected"] == first["rewards/margins"] == 0
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert first["grad_norm"] > 0


@pytest.mark.parametrize("loss", ["ipo", "hinge", "minor_dpo", "sft"])
def test_every_loss_takes_a_step(loss: str, tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """A loss name that fails only at run time is a trap seen in public code."""
    method = {"loss": loss, "weight": 1e6 if loss == "ipo" else 1.0}
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", train__steps=2)
    lines = read_metrics(run({**tree, "method": method}))
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
    weights = final_weights(tmp_path / "run")
    assert any(name.endswith("lora_B.default.weight") and tensor.abs().max() > 0 for name, tensor in weights.items())


@pytest.mark.parametrize("lora", [{"rank": 2}, None], ids=["lora", "full"])
def test_any_diffusers_folder_trains(lora: dict[str, Any] | None, tmp_path: Path) -> None:
    """Other sizes, v-prediction, another scheduler, another resolution: nothing depends on one checkpoint."""
    model = tiny.make_sd(
        tmp_path / "other", prediction_type="v_prediction", channels=(24, 40), sample_size=12, scheduler="PNDMScheduler"
    )
    data = tiny.make_pairs(tmp_path / "pairs", 10, size=40)
    tree = tiny.recipe_tree(model, data, tmp_path / "run", model__lora=lora, optim__lr=1e-4)
    lines = [line for line in read_metrics(run(tree)) if "loss" in line]
    assert len(lines) == 6
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert lines[-1]["loss"] != lines[0]["loss"]


def test_lora_leaves_the_base_weights(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """After training, every weight of the policy but the adapter is the untouched checkpoint's, by hash."""
    from diffusers import UNet2DConditionModel

    from mmpo.models.checkpoint import read_config
    from mmpo.models.loading import weights_hash
    from mmpo.training.loop import Trainer
    from pipelines.build import build_accelerator, build_run

    recipe = validate(lora_tree(sd_folder, pairs_folder, tmp_path / "run"))
    (tmp_path / "run").mkdir()
    parts, _ = build_run(recipe, read_config(str(sd_folder)), build_accelerator(recipe), tmp_path / "run", print)
    Trainer(parts).train()
    trained = parts.policy.state_dict()
    assert any("lora_B" in name and tensor.any() for name, tensor in trained.items())
    untouched = UNet2DConditionModel.from_pretrained(sd_folder / "unet")
    base = {name.replace(".base_layer", ""): t for name, t in trained.items() if "lora_" not in name}
    expected = weights_hash(untouched)
    untouched.load_state_dict(base)
    assert weights_hash(untouched) == expected == parts.identity["base weights"]


def test_full_fine_tune_changes_every_kind_of_weight(full_run: Path, sd_folder: Path) -> None:
    """All weights are trained, and the saved pipeline holds the trained ones."""
    before = load_file(sd_folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(full_run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    assert_same(after, final_weights(full_run))
    assert sum(not torch.equal(before[name], after[name]) for name in before) > 0.95 * len(before)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_resume_is_exact(
    kind: str, lora_run: Path, full_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    """Stopped after two of six steps and resumed: the same weights, moving average and metrics."""
    whole, tree = (lora_run, lora_tree) if kind == "lora" else (full_run, full_tree)
    partial = tmp_path / "run"
    shutil.copytree(whole, partial, ignore=shutil.ignore_patterns("checkpoint-*", "*.safetensors", "pipeline"))
    shutil.copy(whole / "held_out_reference.safetensors", partial)
    run(tree(sd_folder, pairs_folder, tmp_path / "short", train__steps=2))
    shutil.copytree(tmp_path / "short" / "checkpoint-000002", partial / "checkpoint-000002")
    run(tree(sd_folder, pairs_folder, partial), resume=True)
    expected, got = (load_checkpoint(list_checkpoints(folder)[-1]) for folder in (whole, partial))
    for stem in expected.tensors:
        assert_same(dict(expected.tensors[stem]), dict(got.tensors[stem]))
    drop = {"pairs_per_second"}
    lines = [[{k: v for k, v in line.items() if k not in drop} for line in read_metrics(f)] for f in (whole, partial)]
    assert lines[0] == lines[1]


def test_a_cut_checkpoint_is_refused_by_name(
    lora_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a file: the newest checkpoint is refused, the one before is used, the end is the same."""
    copy = tmp_path / "run"
    shutil.copytree(lora_run, copy)
    file = copy / "checkpoint-000006" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    run(lora_tree(sd_folder, pairs_folder, copy), resume=True)
    said = capsys.readouterr().out
    assert "checkpoint-000006/optimizer.safetensors" in said
    assert "resumed after step 4" in said
    assert_same(final_weights(lora_run), final_weights(copy))


def test_resume_refuses_another_recipe(lora_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """A changed learning rate or other data cannot be mixed into a run silently."""
    copy = tmp_path / "run"
    shutil.copytree(lora_run, copy)
    with pytest.raises(ValueError, match=r"optim\.lr was 0\.001 and is now 0\.01"):
        run(lora_tree(sd_folder, pairs_folder, copy, optim__lr=1e-2), resume=True)
    other = tiny.make_pairs(tmp_path / "other", 12)
    with pytest.raises(ValueError, match="training rows changed"):
        run(lora_tree(sd_folder, other, copy), resume=True)


def test_a_run_is_not_overwritten(lora_run: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """Training into a folder that holds a run asks for --resume or another folder."""
    with pytest.raises(ValueError, match="--resume"):
        run(lora_tree(sd_folder, pairs_folder, lora_run))


def test_checkpoints_rotate(lora_run: Path) -> None:
    """Two are kept by default."""
    assert [folder.name for folder in list_checkpoints(lora_run)] == ["checkpoint-000004", "checkpoint-000006"]


def test_metrics_have_the_names_people_know(lora_run: Path) -> None:
    """TRL's names, and the held-out evaluation at step 0 and after."""
    lines = read_metrics(lora_run)
    steps = [line for line in lines if "loss" in line]
    assert {
        "loss",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "grad_norm",
        "learning_rate",
        "epoch",
    } <= steps[0].keys()
    held_out = [line for line in lines if "eval/accuracy" in line]
    assert [line["step"] for line in held_out] == [0, 3, 6]
    assert held_out[0]["eval/accuracy"] == 0.5
    assert list((lora_run / "tensorboard").iterdir())


def test_guard_stops_and_restores(sd_folder: Path, tmp_path: Path) -> None:
    """A learning rate that ruins the model: the run stops, says why, and gives back the last good weights."""
    guard = {"action": "stop", "evaluations": 1, "error_rise": 0.01, "standard_errors": 0.5}
    pairs = tiny.make_pairs(tmp_path / "pairs", 80)
    tree = full_tree(sd_folder, pairs, tmp_path / "run", train__steps=20)
    tree["optim"]["lr"] = 0.05
    tree["evaluation"] |= {"every": 2, "held_out_pairs": 16, "guard": guard}
    folder = run(tree)
    said = json.loads((folder / "train.json").read_text())
    assert said["steps"] < 20
    assert "worse than by the reference" in said["stopped"]
    assert said["weights_step"] == 0
    assert said["held_out"]["accuracy"]["mean"] == 0.5  # of the weights that were saved
    with pytest.raises(ValueError, match="the guard stopped"):
        run(tree, resume=True)
    before = load_file(sd_folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    assert_same(before, after)  # the only healthy evaluation was the one before the first step


def test_gradient_accumulation_changes_nothing(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """One forward of four pairs, or four of one: the same training, here in float64."""
    ends = []
    for micro in (4, 1):
        tree = tiny.recipe_tree(
            sd_folder, pairs_folder, tmp_path / f"micro{micro}", train__micro_batch_size=micro, train__precision="fp64"
        )
        ends.append(final_weights(run(tree)))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-9, atol=1e-12)


def test_gradient_checkpointing_changes_nothing(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """The recomputation in the backward pass must use the policy's weights, with adapters on again."""
    ends = []
    for on in (False, True):
        tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / str(on), train__gradient_checkpointing=on)
        ends.append(final_weights(run(tree)))
    assert_same(ends[0], ends[1])


def test_the_average_is_what_is_judged_and_saved(lora_run: Path) -> None:
    """With a moving average, the saved LoRA is the average, and the last held-out figures are its own."""
    from mmpo.models.saving import LORA_FILE

    average = load_checkpoint(list_checkpoints(lora_run)[-1]).tensors["ema"]
    saved = load_file(lora_run / LORA_FILE)
    own = {"unet." + name.replace(".default", ""): tensor for name, tensor in average.items()}
    assert_same(own, saved)


def test_resume_refuses_other_held_out_draws(
    lora_run: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    """The reference's numbers were computed for these draws; others would be compared with them silently."""
    copy = tmp_path / "run"
    shutil.copytree(lora_run, copy)
    with pytest.raises(ValueError, match=r"evaluation\.draws"):
        run(lora_tree(sd_folder, pairs_folder, copy, evaluation__draws=3), resume=True)
