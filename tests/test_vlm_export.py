"""`mmpo export` of a vision-language model's run: others load it, it holds what was trained, damage is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import command_line
import pytest
import torch
import vlm_finished
from command_line import Main, assert_refused
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from vlm_finished import Finished, copy_of, held
from vlm_rows import folder_of

from mmpo.models.quiet import quiet_transformers
from pipelines import export_check
from pipelines.export import export_run
from pipelines.export_verify import Check
from pipelines.report_run import read_vlm_run
from pipelines.vlm_export_check import check_vlm_export

main = command_line.main
finished = vlm_finished.finished
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks by the old name


def checks_of(run: Path, kind: str, place: Path) -> list[Check]:
    answers = read_vlm_run(run)
    assert answers is not None
    return check_vlm_export(answers, kind, place)


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(20)[None]).logits


def test_merged_logits_are_those_of_the_adapter(finished: Finished, tmp_path: Path) -> None:
    """In float32, as peft loads the adapter and transformers the folder; the processor is the base's."""
    place = export_run(finished("lora"), "merged", tmp_path / "merged")
    with quiet_transformers():
        base = AutoModelForImageTextToText.from_pretrained(folder_of("llava"), dtype=torch.float32)
        plain = logits(base)
        tuned = logits(PeftModel.from_pretrained(base, str(finished("lora") / "adapter")))
        merged = logits(AutoModelForImageTextToText.from_pretrained(place))
        processor = AutoProcessor.from_pretrained(place)
    assert (merged - tuned).abs().max() < 1e-4 * (tuned - plain).abs().max()
    assert processor.chat_template == AutoProcessor.from_pretrained(folder_of("llava")).chat_template
    assert (place / "preprocessor_config.json").is_file()
    assert "lora" not in "".join(load_file(place / "model.safetensors"))


@pytest.mark.parametrize(("run", "kind"), [("lora", "merged"), ("lora", "peft"), ("full", "merged")])
def test_an_export_holds_what_the_run_trained(finished: Finished, tmp_path: Path, run: str, kind: str) -> None:
    place = export_run(finished(run), kind, tmp_path / "out")
    assert failed(checks_of(finished(run), kind, place)) == []
    texts = "".join(file.read_text() for file in place.glob("*.json") if file.name != "tokenizer.json")
    assert str(folder_of("llava")) not in texts


def test_a_base_in_half_precision_stays_so_and_loses_one_rounding(finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished("lora"), tmp_path / "run")
    base = tmp_path / "half"
    with quiet_transformers():
        AutoModelForImageTextToText.from_pretrained(folder_of("llava"), dtype=torch.bfloat16).save_pretrained(base)
        AutoProcessor.from_pretrained(folder_of("llava")).save_pretrained(base)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(folder_of("llava")), str(base)))
    place = export_run(run, "merged")
    assert place == run / "export" / "merged"
    assert {tensor.dtype for tensor in load_file(place / "model.safetensors").values()} == {torch.bfloat16}
    checks = checks_of(run, "merged", place)
    assert failed(checks) == []
    assert next(check for check in checks if "change" in check.name).required == "one rounding of bfloat16"


@pytest.mark.parametrize("damage", ["adapted", "other", "template"])
def test_a_damaged_export_is_found_out(finished: Finished, tmp_path: Path, damage: str) -> None:
    run, file = finished("lora"), tmp_path / "out" / "model.safetensors"
    export_run(run, "merged", tmp_path / "out")
    tensors = load_file(file)
    if damage == "adapted":
        name = next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight"))
        tensors[name] = load_file(folder_of("llava") / "model.safetensors")[name].clone()  # one layer not merged
    elif damage == "other":
        name = next(name for name in tensors if "vision_tower" in name and name.endswith("bias"))
        tensors[name] = tensors[name] + 1e-6
    else:
        (tmp_path / "out" / "chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}<image>")
    save_file(tensors, file, metadata={"format": "pt"})
    names = {"adapted": "weights change as in the run", "other": "all other weights are the base's"}
    assert names.get(damage, "processor and chat template are the base's") in failed(
        checks_of(run, "merged", file.parent)
    )


def test_what_does_not_fit_is_refused(finished: Finished, tmp_path: Path, main: Main) -> None:
    lora, full = finished("lora"), finished("full")
    assert_refused(main("export", lora, "--to", "comfyui"), "not for vision-language models", "merged")
    assert_refused(main("export", full, "--to", "peft"), "has no adapter", "--to merged")
    assert_refused(main("export", lora, "--to", "merged", "-o", lora / "adapter"), "the run's own weights")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    assert_refused(main("export", lora, "--to", "merged", "-o", tmp_path / "taken"), "something else is there")
    run = copy_of(lora, tmp_path / "run")
    (run / "train.json").unlink()
    assert_refused(main("export", run, "--to", "merged"), "no finished weights yet")


def test_the_fresh_process_checks_runs_of_answers(finished: Finished, tmp_path: Path) -> None:
    """What `--verify` starts, in this process: tests of image models start one."""
    place = export_run(finished("lora"), "merged", tmp_path / "out")
    export_check.main(str(finished("lora")), "merged", str(place), str(tmp_path / "answer.json"))
    rows = held(tmp_path / "answer.json")
    assert len(rows) == 6
    assert all(row["passed"] for row in rows)
    assert held(place / "mmpo.json")["merged"] is True
    assert held(place / "config.json")["model_type"] == "llava"
