"""DPO and rDPO of the built-in world's tiny VLM: what it says that is not so, before and after, over training seeds.

    python scripts/bench_shapes_vlm.py --split tune --seeds 0 --set optim.lr=1e-3 --tag lr1e-3
    python scripts/bench_shapes_vlm.py --split test          # the figures in docs/shapes-vlm.md

Every run is the recipe shapes_rdpo; dpo is it without the visual term, dpo_as_long that for as much processor time,
sft likelihood of the chosen answers alone.
Settings are chosen on tune; test is read once. All models answer the same questions, greedily; intervals are clustered
by scene.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from mmpo.files import write_json
from mmpo.models.vlm import load_vlm
from mmpo.recipe_files import load_training
from mmpo.shapes.asked import Asked, exam
from mmpo.training.folders import list_checkpoints
from mmpo.vlm_recipe import VlmRecipe
from pipelines.train_vlm import RECIPE, SUMMARY, train_vlm
from pipelines.vlm_hallucination import ask, compare
from rewards.vlm_model import VlmModel

VARIANTS: dict[str, list[str]] = {
    "dpo": ["method.loss=dpo"],
    "dpo_as_long": ["method.loss=dpo", "train.steps=850"],  # about the processor time of rdpo
    "rdpo": [],
    "sft": ["method={adapter: autoregressive, loss: sft}"],
}
SHOWN = ("hallucinated", "false_mentions", "probes", "relations", "general", "unread")


def recipe_of(name: str, seed: int, options: argparse.Namespace) -> VlmRecipe:
    """The recipe of one row of the table."""
    tag = f"{name}-{seed}" + (f"-{options.tag}" if options.tag else "")
    own = [f"output={options.folder / tag}", f"train.seed={seed}", "train.report_to=[]"]
    recipe = load_training("shapes_rdpo", [*own, *VARIANTS[name], *options.set])
    assert isinstance(recipe, VlmRecipe)
    return recipe


def said_by(recipe: VlmRecipe, run: Path | None, questions: Sequence[Asked]) -> list[str]:
    """Greedy answers of the base, or of a run's tuned model."""
    vlm = load_vlm(recipe.model.path, dtype=torch.float32)
    tuned = vlm.model if run is None else PeftModel.from_pretrained(vlm.model, run / "adapter")
    return ask(VlmModel(tuned, vlm.processor, device="cpu"), questions)


def trained(recipe: VlmRecipe) -> str:
    """Trains unless done before; how long it took."""
    folder, began, used = Path(recipe.output), time.monotonic(), _processor()
    if (folder / SUMMARY).is_file():
        if load_training(str(folder / RECIPE)) != recipe:
            raise ValueError(f"{folder}: holds a run of other settings; give these a --tag of their own")
        return "before"
    train_vlm(recipe, resume=bool(folder.is_dir() and list_checkpoints(folder)))
    return f"{time.monotonic() - began:.0f} s, {_processor() - used:.0f} processor s"


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def print_row(name: str, seed: str, table: dict[str, dict[str, Any]], took: str) -> None:
    """One line of the Markdown table: before → after, and the difference."""
    cells = []
    for measure in SHOWN:
        row = table[measure]
        interval = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        cells.append(f"{row['base']:.3f} → {row['tuned']:.3f}, {interval}")
    print(f"| {name} | {seed} | {' | '.join(cells)} | {took} |", flush=True)


def main() -> None:
    """A row a variant and seed, one for all seeds of a variant, and one of rDPO against DPO."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="tune", choices=("tune", "test"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--set", nargs="*", default=[], help="recipe overrides for every variant")
    parser.add_argument("--tag", default="", help="name of these overrides in the output folders")
    parser.add_argument("--renders", type=int, default=1, help="pictures a scene")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-shapes-vlm"))
    options = parser.parse_args()
    questions = exam(options.split, renders=options.renders)
    base = said_by(recipe_of(options.only[0], 0, options), None, questions)
    print(f"| run | seed | {' | '.join(SHOWN)} | training |\n|---|---|{'---|' * len(SHOWN)}---|", flush=True)
    all_said: dict[str, list[str]] = {}
    for name in options.only:
        for seed in options.seeds:
            recipe = recipe_of(name, seed, options)
            took = trained(recipe)
            said = said_by(recipe, Path(recipe.output), questions)
            table = compare(base, said, questions)
            write_json(Path(recipe.output) / f"bench-{options.split}.json", table)
            print_row(name, str(seed), table, took)
            all_said.setdefault(name, []).extend(said)
        times = len(options.seeds)
        print_row(name, "all", compare(base * times, all_said[name], questions * times), "")
    for name in ("dpo", "dpo_as_long"):
        if {name, "rdpo"} <= all_said.keys():
            table = compare(all_said[name], all_said["rdpo"], questions * len(options.seeds))
            print_row(f"{name} → rdpo", "all", table, "")


if __name__ == "__main__":
    main()
