"""Vision-language models through the one loop: first losses, exact resume, and weights that others load."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from vlm_rows import folder_of
from vlm_runs import recipe_of, rows_at

from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm_saving import merge_vlm
from mmpo.recipe_files import dump
from pipelines import train_vlm as program
from pipelines.train_vlm import train_vlm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_at(tmp_path_factory.mktemp("rows"))


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of steps, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("pairs_per_second", "tokens_per_second", "time")
    return [{name: x for name, x in line.items() if name not in clock} for line in lines if "loss" in line]


@pytest.mark.parametrize(("method", "terms"), [("rdpo", 2), ("mdpo", 3), ("rdpo_released", 2), ("chip", 1)])
def test_the_first_loss_is_ln_2_a_term(data: Path, tmp_path: Path, method: str, terms: int) -> None:
    """Policy and reference are the same, so every margin is exactly 0, released form and divergences included."""
    run = train_vlm(recipe_of("llava", data, tmp_path / "run", f"method.loss={method}", "train.steps=1"))
    first = metrics_of(run)[0]
    assert first["loss"] == pytest.approx(terms * math.log(2), abs=1e-15)
    if method != "chip":
        assert first["rewards/visual"] == first["rewards/margins"] == 0
        assert first["rewards/accuracies"] == first["rewards/accuracies@2-dpo"] == 0.5
    assert first["grad_norm"] > 0


@pytest.mark.parametrize("method", ["rdpo", "mdpo"])
def test_so_it_is_on_qwen(data: Path, tmp_path: Path, method: str) -> None:
    changes = [f"method.loss={method}", "train.steps=1", "train.micro_batch_size=2"]
    run = train_vlm(recipe_of("qwen2.5", data, tmp_path / "run", *changes))
    assert metrics_of(run)[0]["loss"] == pytest.approx({"rdpo": 2, "mdpo": 3}[method] * math.log(2), abs=1e-15)


def test_training_makes_the_chosen_answers_likelier_and_forwards_of_any_size_are_one_run(
    data: Path, tmp_path: Path
) -> None:
    whole, split = tmp_path / "whole", tmp_path / "split"
    train_vlm(recipe_of("llava", data, whole, "method.loss=rdpo", "train.steps=3"))
    small = ["train.micro_batch_size=1", "train.gradient_checkpointing=true"]
    train_vlm(recipe_of("llava", data, split, "method.loss=rdpo", "train.steps=3", *small))
    one, other = metrics_of(whole), metrics_of(split)
    assert one[-1]["rewards/margins"] > 0
    assert one[-1]["rewards/accuracies"] > 0.5
    for mine, theirs in zip(one, other, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """With dropout in the LoRA, whose random state the checkpoint holds, and held-out pairs."""
    changes = ["method.loss=rdpo", "model.lora.dropout=0.3", "train.checkpoint_every=2", "evaluation.held_out_pairs=2"]
    straight = train_vlm(recipe_of("llava", data, tmp_path / "straight", *changes))
    train_vlm(recipe_of("llava", data, tmp_path / "resumed", *changes, "train.steps=2"))
    torch.manual_seed(99)
    resumed = train_vlm(recipe_of("llava", data, tmp_path / "resumed", *changes), resume=True)
    one, other = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (straight, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert metrics_of(straight) == metrics_of(resumed)
    summaries = [json.loads((run / "train.json").read_text()) for run in (straight, resumed)]
    assert summaries[0]["weights"] == summaries[1]["weights"]
    assert summaries[0]["held_out"] == summaries[1]["held_out"]
    with pytest.raises(ValueError, match=r"method\.beta was"):
        train_vlm(
            recipe_of("llava", data, tmp_path / "resumed", *changes, "method.beta=0.2", "train.steps=5"), resume=True
        )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
def test_the_adapter_loads_with_peft_and_merges_into_a_folder_that_transformers_loads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    build = program.build_vlm_run
    monkeypatch.setattr(program, "build_vlm_run", lambda *given: kept.append(build(*given)) or kept[0])
    run = train_vlm(recipe_of("llava", data, tmp_path / "run", "method.loss=rdpo"))
    policy = kept[0][0].policy.eval()
    ids = {"input_ids": torch.arange(20)[None]}
    with quiet_transformers(), torch.no_grad():
        base = AutoModelForImageTextToText.from_pretrained(folder_of("llava"), dtype=torch.float64)
        plain = base(**ids).logits
        tuned = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
        merged = merge_vlm(run / "adapter", tmp_path / "merged", base=str(folder_of("llava")), dtype=torch.float64)
        whole = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float64)
        AutoProcessor.from_pretrained(merged)
        mine = policy(**ids).logits
        assert torch.allclose(tuned(**ids).logits, mine, atol=1e-9)
        assert torch.allclose(whole(**ids).logits, mine, atol=1e-9)
        assert (mine - plain).abs().max() > 1e-4
    assert "PeftModel.from_pretrained" in (run / "README.md").read_text()


def test_a_full_fine_tune_has_a_frozen_copy_and_leaves_the_tower_alone(data: Path, tmp_path: Path) -> None:
    run = train_vlm(recipe_of("llava", data, tmp_path / "run", "method.loss=dpo", "train.steps=2", lora=False))
    assert metrics_of(run)[0]["loss"] == pytest.approx(math.log(2), abs=1e-15)
    with quiet_transformers():
        tuned = AutoModelForImageTextToText.from_pretrained(run / "model", dtype=torch.float64).state_dict()
        base = AutoModelForImageTextToText.from_pretrained(folder_of("llava"), dtype=torch.float64).state_dict()
    moved = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert any("language_model" in name for name in moved)
    assert not any("vision_tower" in name or "projector" in name for name in moved)


@pytest.mark.parametrize("method", ["povid", "v_dpo", "tdpo2", "step_dpo"])
def test_other_methods_train_and_start_where_their_formula_says(data: Path, tmp_path: Path, method: str) -> None:
    """Margins are 0 at the start, but V-DPO's, whose guided score is not the reference's."""
    changes = [f"method.loss={method}", "train.steps=2"] + ["method.segment_weight=3"] * (method == "step_dpo")
    if method == "povid":
        changes.append("method.negative_image=noise")
    lines = metrics_of(train_vlm(recipe_of("llava", data, tmp_path / "run", *changes)))
    near = lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert near == (method != "v_dpo")
    assert lines[1]["loss"] < lines[0]["loss"]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """With a row that has no image, so one process has rows without a term's branch where the other has them; the two
    ask the reference beforehand, each for its share."""
    texts = [{"prompt": "Hello?", "images": [], "chosen": "Hi", "rejected": "No"}]
    data = rows_at(tmp_path / "rows", 3, more=texts)
    changes = ["method.loss=rdpo", "train.micro_batch_size=1", "train.steps=3", "evaluation.held_out_pairs=0"]
    one = train_vlm(recipe_of("llava", data, tmp_path / "one", *changes))
    file = tmp_path / "two.yaml"
    file.write_text(dump(recipe_of("llava", data, tmp_path / "two", *changes, "method.cache_reference=1")))
    done = forks.ranks(2, forks.mmpo, "train", file)
    assert done.code == 0, done
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, tmp_path / "two")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=1e-6, atol=1e-9) for name in weights[0])
    for mine, theirs in zip(metrics_of(one), metrics_of(tmp_path / "two"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    assert json.loads((tmp_path / "two" / "train.json").read_text())["processes"] == 2


def test_spread_weights_are_those_of_one_process(tmp_path: Path) -> None:
    """FSDP2: the language model layer by layer, the tower whole, and unequal shares of held-out rows."""
    data = rows_at(tmp_path / "rows", 8)
    changes = ["method.loss=rdpo", "train.micro_batch_size=1", "train.distribution=fsdp2", "train.checkpoint_every=2"]
    changes += ["evaluation.held_out_pairs=1", "evaluation.every=2"]
    one = train_vlm(recipe_of("llava", data, tmp_path / "one", *changes))
    file = tmp_path / "two.yaml"
    two = recipe_of("llava", data, tmp_path / "two", *changes)
    file.write_text(dump(two))
    done = forks.ranks(2, forks.mmpo, "train", file)
    assert done.code == 0, done
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, tmp_path / "two")]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] - weights[1][name]).abs().max() <= 1e-9 for name in weights[0])
    for mine, theirs in zip(metrics_of(one), metrics_of(tmp_path / "two"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_what_cannot_be_spread_is_refused(tmp_path: Path) -> None:
    spread = "train.distribution=fsdp2"
    for changes, named in (
        (["model.quantize=nf4"], "model.quantize"),
        (["model.lora.targets=language_projector"], "language_projector"),
    ):
        with pytest.raises(ValueError, match=named):
            recipe_of("llava", tmp_path, tmp_path / "run", spread, *changes)
    with pytest.raises(ValueError, match=r"model\.projector"):
        recipe_of("llava", tmp_path, tmp_path / "run", spread, "model.projector=true", lora=False)
