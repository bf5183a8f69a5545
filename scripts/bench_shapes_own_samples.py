"""D3PO and SPO on the built-in world beside Diffusion-DPO: accuracy, and what it cost to get there.

    python scripts/bench_shapes_own_samples.py --prompts shapes/tune --only d3po --seeds 0 --set optim.lr=5e-4 --tag lr5
    python scripts/bench_shapes_own_samples.py --prompts shapes/test     # the figures in docs/own-samples.md

Every run's table row is at its end; with --curve also at each checkpoint, with the denoiser's forwards (rows, an image
under guidance is two) and processor seconds up to there, sampling and scoring included. Diffusion-DPO makes its own
pairs, which is charged to it. Settings are chosen on shapes/tune; shapes/test is read once.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from bench_shapes_dpo import print_pooled, print_row
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mmpo.files import write_json
from mmpo.models.checkpoint import read_config
from mmpo.models.lora import add_lora
from mmpo.recipe import Recipe
from mmpo.recipe_files import load_recipe
from mmpo.training import loop
from mmpo.training.folders import list_checkpoints
from pipelines.evaluation import evaluation_jobs, load_policy, load_rewards, sample_and_score
from pipelines.measures import Columns, compare
from pipelines.train import finished_before, train

VARIANTS = {"d3po": "shapes_d3po", "spo": "shapes_spo", "dpo": "shapes_diffusion_dpo"}
COSTS = "bench-costs.json"


@dataclass
class Cost:
    """What a run has used so far: rows through the denoiser without and with a gradient, processor seconds, seconds."""

    plain: int = 0
    trained: int = 0
    processor: float = 0.0
    clock: float = 0.0


def counted_training(recipe: Recipe) -> None:
    """Trains, and keeps the cost at each checkpoint in the run's folder."""
    cost, began = Cost(), (time.process_time(), time.monotonic())

    def count(module: nn.Module, arguments: Any) -> None:
        if type(module).__name__ == "UNet2DConditionModel":
            rows = len(arguments[0])
            cost.trained += rows if torch.is_grad_enabled() else 0
            cost.plain += 0 if torch.is_grad_enabled() else rows

    kept: dict[int, dict[str, float]] = {}
    save = loop.save_checkpoint

    def saving(folder: Path, state: Any, *, keep: int) -> None:
        cost.processor, cost.clock = time.process_time() - began[0], time.monotonic() - began[1]
        kept[state.step] = asdict(cost)
        save(folder, state, keep=keep)
        write_json(folder / COSTS, kept)

    hook = register_module_forward_pre_hook(count)
    loop.save_checkpoint = saving  # type: ignore[assignment]
    try:
        train(recipe)
    finally:
        loop.save_checkpoint = save
        hook.remove()


def recipe_of(name: str, seed: int, options: argparse.Namespace) -> Recipe:
    """The recipe of one row of the table."""
    tag = f"{name}-{seed}" + (f"-{options.tag}" if options.tag else "")
    own = [f"data.path={options.folder}/pairs-{seed}"] if name == "dpo" else []
    return load_recipe(
        VARIANTS[name],
        [
            *own,
            f"output={options.folder / tag}",
            f"train.seed={seed}",
            "train.report_to=[]",
            "train.keep_checkpoints=100",
            "evaluation.previews.count=0",
            f"evaluation.prompts={options.prompts}",
            *options.set,
        ],
    )


def scores_at(recipe: Recipe, checkpoint: Path | None) -> Columns:
    """Scores of the weights of a checkpoint, or of the finished run."""
    config = read_config(recipe.model.path)
    pipeline = load_policy(config, recipe, Path(recipe.output) if checkpoint is None else None)
    if checkpoint is not None:
        assert recipe.model.lora is not None
        denoiser = getattr(pipeline, config.family.denoiser)
        add_lora(denoiser, recipe.model.lora, config.family, seed=0)
        _, odd = denoiser.load_state_dict(load_file(checkpoint / "weights.safetensors"), strict=False)
        assert not odd
    jobs = evaluation_jobs(recipe.evaluation)
    return sample_and_score(pipeline, jobs, recipe.evaluation, load_rewards(recipe.evaluation)).columns


def main() -> None:
    """The table, a row per variant and seed, and a curve for each where asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", default="shapes/tune")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--set", nargs="*", default=[], help="recipe overrides for every variant")
    parser.add_argument("--tag", default="", help="name of these overrides in the output folders")
    parser.add_argument("--curve", action="store_true", help="a row at each checkpoint too")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-own-samples"))
    options = parser.parse_args()
    recipe = recipe_of(options.only[0], 0, options)
    jobs = evaluation_jobs(recipe.evaluation)
    pipeline = load_policy(read_config(recipe.model.path), recipe, None)
    base = sample_and_score(pipeline, jobs, recipe.evaluation, load_rewards(recipe.evaluation)).columns
    prompts = [job.prompt for job in jobs]
    print("| run | seed | base | tuned | difference [95 %] | soft | mirrored | prompts won | cost |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.only:
        found = []
        for seed in options.seeds:
            recipe = recipe_of(name, seed, options)
            if not finished_before(recipe):
                counted_training(recipe)
            costs = json.loads((Path(recipe.output) / COSTS).read_text())
            if options.curve:
                for checkpoint in list_checkpoints(Path(recipe.output)):
                    step = str(int(checkpoint.name.rsplit("-", 1)[1]))
                    table = compare(base, scores_at(recipe, checkpoint), prompts)
                    print_row(f"{name} at {step}", str(seed), table, _words(costs[step]))
            found.append(scores_at(recipe, None))
            print_row(name, str(seed), compare(base, found[-1], prompts), _words(list(costs.values())[-1]))
        if len(found) > 1:
            print_pooled(name, found, base, prompts)


def _words(cost: dict[str, float]) -> str:
    rows = f"{cost['plain'] / 1000:.0f}k + {cost['trained'] / 1000:.0f}k rows"
    return f"{rows}, {cost['processor']:.0f} processor s, {cost['clock']:.0f} s"


if __name__ == "__main__":
    main()
