"""Is MinorDPO more robust than DPO? A grid of learning rate × β on the built-in world, both losses, the same pairs.

    python scripts/bench_minor_dpo.py                 # every cell; a finished one is not trained again
    python scripts/bench_minor_dpo.py --table         # the table of what is there

The claim (Xie et al., arXiv 2408.09834) is robustness: that a larger learning rate or a smaller β does less harm. A run
counts as collapsed where its verified accuracy on tune prompts ends more than five points below the base's. The rise is
the chosen images' held-out error above the reference, as a share of the reference's own.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpo.recipe import Recipe
from mmpo.recipe_files import load_recipe
from mmpo.training.folders import list_checkpoints
from mmpo.training.metrics import read_metrics
from pipelines.evaluation import evaluate
from pipelines.train import finished_before, train

LOSSES = ("dpo", "minor_dpo")
RATES = (5e-4, 2e-3, 5e-3)
BETAS = (50.0, 500.0, 5000.0)
SEEDS = (0, 1)
COLLAPSED = 0.05


def cells() -> Iterator[tuple[str, float, float, int]]:
    """(loss, learning rate, β, seed) of every run, one seed of all before the next."""
    for seed, rate, beta in itertools.product(SEEDS, RATES, BETAS):
        for loss in LOSSES:
            yield loss, rate, beta, seed


def recipe_of(cell: tuple[str, float, float, int], folder: Path) -> Recipe:
    """The demo's recipe with another loss, learning rate and β."""
    loss, rate, beta, seed = cell
    return load_recipe(
        "shapes_diffusion_dpo",
        [
            f"output={folder / run_name(cell)}",
            f"data.path={folder / 'pairs'}",
            f"method={{loss: {loss}, beta: {beta:g}}}",
            f"optim.lr={rate:g}",
            f"train.seed={seed}",
            "train.checkpoint_every=1000",
            "evaluation.every=100",
            "evaluation.prompts=shapes/tune",
            "evaluation.samples=2",
            "evaluation.previews.count=0",
            "evaluation.guard.action=warn",
        ],
    )


def run_name(cell: tuple[str, float, float, int]) -> str:
    """Folder of a run."""
    loss, rate, beta, seed = cell
    return f"{loss}-lr{rate:g}-beta{beta:g}-{seed}"


def result(run: Path) -> dict[str, Any] | None:
    """Figures of a finished run."""
    if not (run / "evaluation.json").is_file():
        return None
    score = json.loads((run / "evaluation.json").read_text())["measures"]["shapes"]
    held = [line for line in read_metrics(run) if "eval/accuracy" in line][-1]
    return {
        "base": score["base"],
        "tuned": score["tuned"],
        "rise": held["eval/chosen_error_vs_reference"] / held["eval/reference_error"],
        "accuracy": held["eval/accuracy"],
    }


def print_table(folder: Path) -> None:
    """A line per learning rate and β, seeds averaged; then the share of collapsed runs of each loss."""
    print("| learning rate | β | dpo: verified, rise | minor_dpo: verified, rise |")
    print("|---|---|---|---|")
    lost: dict[str, list[bool]] = {loss: [] for loss in LOSSES}
    for rate, beta in itertools.product(RATES, BETAS):
        columns = []
        for loss in LOSSES:
            found = [result(folder / run_name((loss, rate, beta, seed))) for seed in SEEDS]
            rows = [row for row in found if row is not None]
            lost[loss] += [row["tuned"] < row["base"] - COLLAPSED for row in rows]
            columns.append(", ".join(f"{row['tuned']:.3f} ({row['rise']:+.0%})" for row in rows) or "not run")
        print(f"| {rate:g} | {beta:g} | {' | '.join(columns)} |")
    for loss, flags in lost.items():
        print(f"{loss}: {sum(flags)} of {len(flags)} runs collapsed")


def main() -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print what is there, train nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-minor-dpo"))
    options = parser.parse_args()
    for cell in [] if options.table else cells():
        recipe, run = recipe_of(cell, options.folder), options.folder / run_name(cell)
        if not finished_before(recipe):
            train(recipe, resume=bool(run.is_dir() and list_checkpoints(run)))
        if not (run / "evaluation.json").is_file():
            evaluate(run)
        print(run_name(cell), result(run), flush=True)
    print_table(options.folder)


if __name__ == "__main__":
    main()
