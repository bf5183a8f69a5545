"""Run folders in every state, written by hand: what reports and model cards are tried on, without a training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from mmpo.data.images import encode
from mmpo.files import write_bytes, write_json
from mmpo.recipe_files import dump, validate
from pipelines.grid import CELL, GAP, side_by_side

PROMPTS = ("a red circle", "a blue | square", "<script>alert(1)</script>")
STOPPED = (
    "step 40: the chosen images are denoised worse than by the reference in 3 evaluations running; the weights of the "
    "last healthy evaluation, at step 20, were restored"
)


def make_run(
    folder: Path,
    *,
    steps: int = 40,
    finished: bool = True,
    stopped: str | None = None,
    held_out: bool = True,
    broken: bool = False,
    samples: bool = True,
    lora: bool = True,
    base: str = "shapes/sd",
    prompts: tuple[str, ...] = PROMPTS,
    **sections: dict[str, Any],
) -> Path:
    """A run's folder.

    Args:
        finished: with train.json and weights.
        stopped: the guard's sentence.
        held_out: with held-out evaluations.
        broken: from the middle on, every number is NaN.
        samples: with previews.
        sections: of the recipe, replacing the default ones.
    """
    tree: dict[str, Any] = {
        "model": {"path": base, "lora": {"rank": 4} if lora else None},
        "data": {"path": str(folder.parent / "my pairs")},
        "train": {"steps": steps, "batch_size": 4},
        "output": str(folder),
        **sections,
    }
    write_bytes(folder / "recipe.yaml", dump(validate(tree)).encode())
    lines = [line for step in range(steps + 1) for line in metrics(step, held_out, broken and step > steps / 2)]
    write_bytes(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    if samples:
        write_samples(folder, prompts, steps)
    if finished:
        write_json(folder / "train.json", summary(steps, stopped, held_out))
        write_weights(folder, lora, base)
    return folder


def metrics(step: int, held_out: bool, broken: bool) -> list[dict[str, Any]]:
    """The lines of one step."""
    bad = math.nan if broken else 1.0
    lines: list[dict[str, Any]] = []
    if step:
        train = {"loss": 0.69 - step / 1000, "grad_norm": 2.0, "learning_rate": 1e-5, "pairs_per_second": 8.0}
        rewards = {"rewards/chosen": 0.1, "rewards/rejected": -0.1, "rewards/margins": 0.2, "rewards/accuracies": 0.6}
        lines.append({"step": step, **{name: bad * value for name, value in (train | rewards).items()}})
    if held_out and step % 10 == 0:
        figures = {"eval/accuracy": 0.7, "eval/accuracy_low": 0.6, "eval/accuracy_high": 0.8}
        errors = {"reference_error": 0.04, "chosen_error_vs_reference": 1e-3, "chosen_error_standard_error": 1e-4}
        figures |= {f"eval/{name}": value for name, value in errors.items()}
        figures |= {"eval/rejected_error_vs_reference": 2e-3}
        figures |= {f"eval/accuracy@t[{place}]": 0.5 for place in ("0-0.25", "0.25-0.5", "0.5-0.75", "0.75-1")}
        lines.append({"step": step, **{name: bad * value for name, value in figures.items()}})
    return lines


def summary(steps: int, stopped: str | None, held_out: bool) -> dict[str, Any]:
    """train.json."""
    accuracy = {"mean": 0.7, "low": 0.6, "high": 0.8, "standard_error": 0.05}
    return {
        "steps": steps,
        "weights_step": steps // 2 if stopped else steps,
        "stopped": stopped,
        "warnings": [stopped] if stopped else [],
        "held_out": {"accuracy": accuracy, "pairs": 60} if held_out else None,
        "identity": {"base weights": "b" * 64, "training rows": "t" * 24},
        "weights": "w" * 64,
        "versions": {"mmpo": "0.1.0", "python": "3.11"},
        "processes": 1,
        "device": "cpu",
    }


def write_weights(folder: Path, lora: bool, base: str) -> None:
    """Weights whose header, or configs, name the base as the real ones do."""
    about = json.dumps({"base_model": base, "steps": 40})
    data = save({"unet.layer.lora_A.weight": torch.arange(6.0).view(2, 3)}, metadata={"format": "pt", "mmpo": about})
    if lora:
        write_bytes(folder / "pytorch_lora_weights.safetensors", data)
        return
    index = {"_class_name": "StableDiffusionPipeline", "_name_or_path": base}
    write_json(folder / "pipeline" / "model_index.json", index)
    write_json(folder / "pipeline" / "unet" / "config.json", {"_name_or_path": base, "channels": [1, 2]})
    write_json(folder / "pipeline" / "tokenizer" / "vocab.json", {"/a/b": 1})
    write_bytes(folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors", data)
    write_json(folder / "pipeline" / "mmpo.json", json.loads(about))


def write_samples(folder: Path, prompts: tuple[str, ...], steps: int) -> None:
    """Strips of previews at a few steps."""
    about = {"prompts": list(prompts), "seed": 0, "cell": [16, 16], "sampling": {"steps": 2}}
    write_json(folder / "samples" / "previews.json", about)
    for step in range(0, steps + 1, max(1, steps // 4)):
        strip = Image.new("RGB", (16 * len(prompts), 16), (step % 256, 0, 0))
        write_bytes(folder / "samples" / f"step-{step:06d}.png", encode(strip))


def evaluate(folder: Path, prompts: tuple[str, ...] = PROMPTS, *, grid: bool = True, **row: Any) -> None:
    """evaluation.json and evaluation.png, as `mmpo eval` leaves them; without `grid` as an older version did."""
    images = [Image.new("RGB", (16, 16), (0, 0, 60 * number)) for number in range(len(prompts))]
    write_bytes(folder / "evaluation.png", side_by_side(images, images, 1))
    measure = {
        "base": 0.44,
        "tuned": 0.95,
        "difference": 0.51,
        "low": 0.46,
        "high": 0.55,
        "win_rate": 0.9,
        "win_low": 0.85,
        "win_high": 0.95,
        "prompts": 188,
        "samples": 752,
        "failed": 0,
        "higher_is_better": True,
    }
    result: dict[str, Any] = {
        "measures": {"shapes": {**measure, **row}},
        "prompts": str(folder.parent / "my prompts.txt"),
        "samples_per_prompt": 4,
        "seed": 0,
        "sampling": {"steps": 20, "guidance": 2.0},
        "weights": {"base": "b" * 64, "tuned": "f" * 64},
    }
    if grid:
        result["grid"] = {"prompts": list(prompts), "cell": [CELL, CELL], "gap": GAP}
    write_json(folder / "evaluation.json", result)
