"""QLoRA: a LoRA on a base in 4 bits trains, resumes, and is put onto a whole base again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_vlms
import torch
from safetensors.torch import load_file
from vlm_runs import recipe_of, rows_at

from mmpo.models.quiet import quiet_transformers
from pipelines import train_vlm as program
from pipelines.export import export_run
from pipelines.report_run import read_vlm_run
from pipelines.train_vlm import train_vlm
from pipelines.vlm_export_check import check_vlm_export
from pipelines.vlm_run_evaluation import evaluate_vlm

CHANGES = ["method.loss=rdpo", "model.quantize=nf4", "train.precision=fp32", "train.checkpoint_every=2"]
CHANGES += ["evaluation.held_out_pairs=2"]


@pytest.fixture(autouse=True)
def needs_bitsandbytes() -> None:
    if not os.environ.get("MMPO_TEST_QUANT"):  # scripts/test_quant.sh, which .ci/run calls, gets it and insists
        pytest.importorskip("bitsandbytes")


def assert_gradients_pass(policy: Any) -> None:
    """The LoRA's gradients are those over the base's weights written out, also after a forward without training."""
    import bitsandbytes as bits

    model = policy.eval()
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        with torch.no_grad():
            model(input_ids=torch.arange(5, 15)[None])
        model(input_ids=torch.arange(5, 15)[None]).logits.log_softmax(-1)[0, :, 7].sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    four_bits = gradients()
    for _, module in list(model.named_modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, bits.nn.Linear4bit):  # peft's layer around it has that name too
                whole = torch.nn.Linear(part.in_features, part.out_features, bias=part.bias is not None)
                whole.weight.data = bits.functional.dequantize_4bit(part.weight.data, part.weight.quant_state).float()
                setattr(module, name, whole.requires_grad_(False))
    written_out = gradients()
    assert four_bits.keys() == written_out.keys()
    assert four_bits
    for name, wanted in written_out.items():
        torch.testing.assert_close(four_bits[name], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max() + 1e-12))


@pytest.mark.filterwarnings("default")  # of bitsandbytes, which says what it lacks on a machine without a GPU
def test_a_lora_on_a_4_bit_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the language model's layers are in 4 bits; the loss begins at 2 ln 2, and a resume is exact."""
    kept: list[Any] = []
    build = program.build_vlm_run
    monkeypatch.setattr(program, "build_vlm_run", lambda *given: kept.append(build(*given)) or kept[-1])
    data, text = rows_at(tmp_path / "rows"), tiny_vlms.qwen_text
    wide = {"hidden_size": 64, "intermediate_size": 128}  # bitsandbytes packs 64 weights at a time
    monkeypatch.setattr(tiny_vlms, "qwen_text", lambda size: {**text(size), **wide})
    with quiet_transformers():
        changes = [*CHANGES, f"model.path={tiny_vlms.make_llava(tmp_path / 'llava')}"]
    run = train_vlm(recipe_of("llava", data, tmp_path / "run", *changes))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert lines[0]["loss"] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < lines[0]["loss"]
    four = [name for name, module in kept[0][0].policy.named_modules() if type(module).__name__ == "Linear4bit"]
    assert four
    assert all("language_model" in name for name in four)
    train_vlm(recipe_of("llava", data, tmp_path / "half", *changes, "train.steps=2"))
    resumed = train_vlm(recipe_of("llava", data, tmp_path / "half", *changes), resume=True)
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (run, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert_gradients_pass(kept[0][0].policy)
    answers = read_vlm_run(run)
    assert answers is not None
    assert evaluate_vlm(run)["measures"]["held-out/preferred"]["samples"] == 1
    assert all(check.passed for check in check_vlm_export(answers, "merged", export_run(run, "merged")))
