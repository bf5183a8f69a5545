"""How long the losses take, forward and backward, and their share of a training step of the built-in world.

    python scripts/bench_losses.py                                # pairs of a run in runs/healthy-runs/pairs
    python scripts/bench_losses.py --pairs MY_PAIRS --threads 2   # other pairs; without any, no share is given

Log-likelihoods are numbers here: the model's forward and backward, which a step mostly is, are not in the first table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmpo.losses import PairLogps
from mmpo.losses.listwise import exo_list, lipo_lambda, pairwise_logistic, plackett_luce, pro, rank_dpo
from mmpo.losses.pairwise import dpo
from mmpo.recipe_files import load_recipe
from pipelines.train import train

LISTS, CANDIDATES, PAIRS = 4096, 8, 1_000_000
Forward = Callable[[], Tensor]


def pair_case(count: int) -> tuple[Forward, list[Tensor]]:
    """`dpo` on `count` pairs, and what it is differentiated by."""
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(count, generator=generator) for _ in range(4)]
    leaves = [side.requires_grad_() for side in sides[:2]]
    return lambda: dpo(PairLogps(*leaves), PairLogps(*sides[2:]), beta=0.1), leaves


def list_cases(count: int, size: int) -> dict[str, tuple[Forward, list[Tensor]]]:
    """Every list loss that takes one log-likelihood per candidate; a tenth of the slots is empty."""
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(count, size, generator=generator).requires_grad_()
    reference, scores = torch.randn(count, size, generator=generator), torch.rand(count, size, generator=generator)
    given = {"scores": scores, "mask": torch.rand(count, size, generator=generator) < 0.9}
    lengths = torch.full((count, size), 20)
    return {
        "pairwise_logistic": (lambda: pairwise_logistic(policy, reference, **given, beta=0.1), [policy]),
        "rank_dpo": (lambda: rank_dpo(policy, reference, **given, beta=0.1), [policy]),
        "lipo_lambda": (lambda: lipo_lambda(policy, reference, **given, beta=0.1), [policy]),
        "plackett_luce": (lambda: plackett_luce(policy, reference, **given, beta=0.1), [policy]),
        "exo_list": (lambda: exo_list(policy, reference, **given, beta=0.1, beta_r=1.0), [policy]),
        "pro": (lambda: pro(policy, **given, lengths=lengths, sft_weight=0.05), [policy]),
    }


def milliseconds(forward: Forward, leaves: list[Tensor], budget: float = 1.5) -> tuple[float, float]:
    """Medians of forward and of backward, over as many repeats as fit into `budget` seconds (5 at least)."""
    forwards: list[float] = []
    backwards: list[float] = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(forwards) < 5:
        start = time.perf_counter()
        loss = forward().mean()
        middle = time.perf_counter()
        torch.autograd.grad(loss, leaves)
        forwards.append(middle - start)
        backwards.append(time.perf_counter() - middle)
    return 1e3 * statistics.median(forwards), 1e3 * statistics.median(backwards)


def step_milliseconds(pairs: Path) -> tuple[float, int]:
    """(median time of a training step, its number of pairs): 20 steps of the shipped recipe on existing pairs."""
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"data.path={pairs}", "data.make=null", "data.limit=200", f"output={folder}/run", "train.steps=20"]
        recipe = load_recipe("shapes_diffusion_dpo", [*changes, "evaluation.held_out_pairs=32"])
        lines = (train(recipe) / "metrics.jsonl").read_text().splitlines()
    speeds = [row["pairs_per_second"] for row in map(json.loads, lines) if "pairs_per_second" in row]
    return 1e3 * recipe.train.batch_size / statistics.median(speeds[2:]), recipe.train.batch_size


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("runs/healthy-runs/pairs"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, threads: {options.threads}, torch {torch.__version__}, float32\n")
    print("| loss | size | forward ms | backward ms | ns per candidate |\n|---|---|---:|---:|---:|")
    cases = {
        name: (f"{LISTS} x {CANDIDATES}", LISTS * CANDIDATES, *case)
        for name, case in list_cases(LISTS, CANDIDATES).items()
    }
    cases["dpo"] = (f"{PAIRS} x 2", 2 * PAIRS, *pair_case(PAIRS))
    for name, (size, count, forward, leaves) in cases.items():
        times = milliseconds(forward, leaves)
        print(f"| {name} | {size} | {times[0]:.2f} | {times[1]:.2f} | {1e6 * sum(times) / count:.0f} |", flush=True)
    if not options.pairs.is_dir():
        print(f"\n{options.pairs}: no pairs there, so no training step was timed; --pairs FOLDER names some")
        return
    step, batch = step_milliseconds(options.pairs)
    print(f"\nA step of shapes_diffusion_dpo, {batch} pairs: {step:.0f} ms. Of it, the loss with its backward:\n")
    print("| loss | size | ms | share |\n|---|---|---:|---:|")
    shares = {"dpo": (f"{batch} x 2", pair_case(batch))}
    shares |= {name: (f"{batch} x {CANDIDATES}", case) for name, case in list_cases(batch, CANDIDATES).items()}
    for name, (size, case) in shares.items():
        spent = sum(milliseconds(*case, budget=0.3))
        print(f"| {name} | {size} | {spent:.3f} | {spent / step:.2%} |")


if __name__ == "__main__":
    main()
