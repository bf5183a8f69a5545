"""Kills trainings at random moments, resumes them, and compares the end with an uninterrupted run, bit for bit.

    python tests/killing.py --kind lora --kills 3 --seed 0 --folder DIR

Everything heavy is imported once; each attempt is a fork of this process that is ended by SIGKILL.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny
import torch
from sampling_parts import SPO, STEP_WISE, rollout_tree
from tiny_reward import make_clip, reward_tree

from mmpo.recipe_files import validate, validate_as
from mmpo.reward_recipe import RewardRecipe
from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints
from pipelines.train import train
from pipelines.train_reward import train_reward

STEPS = 16
SHORT = 8
"""Steps of a run on own samples, which also has three rounds to sample."""


def tree(kind: str, folder: Path, name: str) -> dict[str, Any]:
    """A recipe with dropout, moving average, accumulation and previews for LoRA; all weights for "full"; a CLIP's.

    On own samples, "d3po" and "spo": rounds of 3 steps, a checkpoint each second one, references that are refreshed.
    """
    if kind == "reward":
        changes = {"train__steps": STEPS, "evaluation__held_out_pairs": 4, "train__micro_batch_size": 2}
        return reward_tree(folder / "clip", folder / "pairs", folder / name, **changes)
    steps = SHORT if kind in ("d3po", "spo") else STEPS
    changes = {"train__steps": steps, "train__checkpoint_every": 2, "train__micro_batch_size": 2}
    if kind in ("d3po", "spo"):
        changes |= {"model__lora": {"rank": 4, "dropout": 0.1}, "train__ema": 0.9, "rollout__refresh_reference": 2}
        if kind == "spo":
            changes |= {f"rollout__{key}": value for key, value in STEP_WISE.items()}
        recipe = rollout_tree(folder / "sd", folder / name, **changes)
        return {**recipe, "method": SPO} if kind == "spo" else recipe
    if kind == "lora":
        changes |= {"model__lora": {"rank": 4, "dropout": 0.1}, "train__ema": 0.9}
        changes |= {"evaluation__previews": {"count": 1, "every": 4}, "evaluation__sampling": {"steps": 2}}
    else:
        changes |= {"model__lora": None, "optim__lr": 1e-4}
    return tiny.recipe_tree(folder / "sd", folder / "pairs", folder / name, **changes)


def start(recipe: dict[str, Any]) -> int:
    """Forks a training, resuming where a checkpoint is; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(f"{recipe['output']}.log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            resume = bool(list_checkpoints(Path(recipe["output"])))
            if "objective" in recipe:
                train_reward(validate_as(RewardRecipe, recipe), resume=resume)
            else:
                train(validate(recipe), resume=resume)
            code = 0
    finally:
        os._exit(code)


def whole_run(recipe: dict[str, Any]) -> float:
    """Trains without interruption; returns the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(start(recipe), 0)
    if status:
        sys.exit(f"the uninterrupted run failed:\n{Path(recipe['output'] + '.log').read_text()}")
    return time.monotonic() - began


def wait_for_a_moment(child: int, folder: Path, again: bool, longest: float, rng: random.Random) -> None:
    """A random moment: at most `longest` seconds from here or, with `again`, soon after the next checkpoint."""
    if again:
        known = list_checkpoints(folder)[-1:]
        while list_checkpoints(folder)[-1:] == known and not os.waitid(
            os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.01)
    time.sleep(rng.uniform(0.0 if again else 0.1, 0.2 if again else 1.0) * longest)


def killed_run(recipe: dict[str, Any], kills: int, seconds: float, rng: random.Random) -> int:
    """Trains with `kills` SIGKILLs at random moments; returns how many hit a running training.

    Every second one comes after a checkpoint, so that there is something to resume from however slow the start is.
    """
    hits = 0
    while True:
        child = start(recipe)
        if hits < kills:
            # Kills are spread so that a resumed run has work left for the next one.
            wait_for_a_moment(child, Path(recipe["output"]), hits % 2 == 0, seconds * 1.5 / (kills + 1), rng)
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                hits += 1
                continue
            return hits
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"a resumed run failed:\n{Path(recipe['output'] + '.log').read_text()}")
        return hits


def same_end(first: Path, second: Path) -> bool:
    """Whether both runs ended after all steps with identical weights, optimiser, average and random states."""
    ends = [load_checkpoint(list_checkpoints(folder)[-1]) for folder in (first, second)]
    if ends[0].step != ends[1].step or ends[0].step < SHORT:
        return False
    return all(
        torch.equal(tensor, ends[1].tensors[stem][name])
        for stem, tensors in ends[0].tensors.items()
        for name, tensor in tensors.items()
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """One uninterrupted run, then killed ones until the asked number of kills hit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("lora", "full", "reward", "d3po", "spo"), required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    if options.kind == "reward":
        make_clip(options.folder / "clip")
    else:
        tiny.make_sd(options.folder / "sd")
    tiny.make_pairs(options.folder / "pairs")
    rng = random.Random(options.seed)
    seconds = whole_run(tree(options.kind, options.folder, "whole"))
    hits, attempt = 0, 0
    while hits < options.kills:
        attempt += 1
        recipe = tree(options.kind, options.folder, f"killed{attempt}")
        hits += killed_run(recipe, min(3, options.kills - hits), seconds, rng)
        if not same_end(options.folder / "whole", options.folder / f"killed{attempt}"):
            sys.exit(f"{options.kind}: attempt {attempt} with seed {options.seed} ended with other weights")
    logs = [file.read_text() for file in options.folder.glob("killed*.log")]
    resumed = sum(text.count("resumed after step") for text in logs)
    if options.kills and not resumed:
        sys.exit(f"{options.kind}: no kill left a checkpoint, so nothing was resumed")
    steps = tree(options.kind, options.folder, "whole")["train"]["steps"]
    print(
        f"{options.kind}: {hits} kills in {attempt} runs of {steps} steps, {resumed} of them resumed, every end "
        "bit-identical"
    )


if __name__ == "__main__":
    main()
