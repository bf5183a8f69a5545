"""What loss, margins and held-out figures look like when preference training works and when it does not.

    python scripts/bench_healthy_runs.py                          # trains every variant on the built-in world
    python scripts/bench_healthy_runs.py --draw docs/healthy-runs # the plots and the table of docs/healthy-runs.md

Each variant is the demo's recipe with one thing wrong. The guard only warns, so that the whole course is seen. The
verified accuracy is that of tune prompts: these runs choose nothing, but test prompts are not needed for it either.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mmpo.recipe import Recipe
from mmpo.recipe_files import load_recipe
from mmpo.training.folders import list_checkpoints
from pipelines.evaluation import evaluate
from pipelines.train import finished_before, train

VARIANTS: dict[str, tuple[str, Sequence[str]]] = {
    "healthy": ("the demo's recipe", []),
    "too_long": ("1000 steps in place of 200", ["train.steps=1000"]),
    "rate_high": ("learning rate 1e-2, 20 times the recipe's", ["optim.lr=1e-2"]),
    "beta_low": ("beta 5, a hundredth of the recipe's", ["method.beta=5"]),
    "beta_high": ("beta 500,000, a thousand times the recipe's", ["method.beta=500000"]),
    "random_labels": ("labels drawn by a hash", ["data.make.reward={name: random, seed: 0}", "data.make.margin=0"]),
}
COMMON = [
    "evaluation.every=20",
    "evaluation.prompts=shapes/tune",
    "evaluation.previews.count=6",
    "evaluation.guard.action=warn",
    "train.checkpoint_every=1000",
]


def recipe_of(name: str, folder: Path) -> Recipe:
    """The demo's recipe with one change."""
    pairs = "pairs-random" if name == "random_labels" else "pairs"
    places = [f"output={folder / name}", f"data.path={folder / pairs}"]
    return load_recipe("shapes_diffusion_dpo", [*places, *COMMON, *VARIANTS[name][1]])


def run_all(names: Sequence[str], folder: Path) -> None:
    """Trains and evaluates what is not there yet."""
    for name in names:
        recipe, run = recipe_of(name, folder), folder / name
        print(f"--- {name}: {VARIANTS[name][0]}", flush=True)
        if not finished_before(recipe):
            train(recipe, resume=bool(run.is_dir() and list_checkpoints(run)))
        if not (run / "evaluation.json").is_file():
            evaluate(run)
        row = json.loads((run / "evaluation.json").read_text())["measures"]["shapes"]
        print(f"verified accuracy {row['base']:.3f} -> {row['tuned']:.3f}", flush=True)


def main() -> None:
    """Trains, or draws what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--folder", type=Path, default=Path("runs/healthy-runs"))
    options = parser.parse_args()
    run_all(options.only, options.folder)


if __name__ == "__main__":
    main()
