"""Kills a synthesis at random moments of every stage, goes on, and compares it with an uninterrupted one.

    python tests/synth_killing.py --kills 20 --seed 0 --folder DIR

Everything heavy is imported once; each attempt is a fork of this process that is ended by SIGKILL.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny
import torch
from PIL import Image

from mmpo.data.shards import read_rows
from mmpo.recipe_files import validate_as
from mmpo.shapes.grammar import captions
from mmpo.shapes.prompts import scenes
from mmpo.synth_recipe import SynthRecipe
from pipelines.synth import STAGES, plan, synth
from pipelines.synth_images import image_tasks
from pipelines.synth_places import Places
from pipelines.synth_scores import score_tasks

LONGEST = 600
"""Seconds after which a call hangs."""


def recipe_of(folder: Path) -> SynthRecipe:
    """Two generators of a tiny Stable Diffusion and two rewards; relative names, so that every copy says the same."""
    own = {"path": str(folder / "sd"), "steps": 2, "guidance": 1.0, "width": 16, "height": 16, "batch_size": 4}
    return validate_as(
        SynthRecipe,
        {
            "prompts": {"path": str(folder / "prompts.txt"), "near_duplicates": None},
            "generators": [{"name": "one", **own}, {"name": "two", **own, "seed": 5, "per_prompt": 2}],
            "rewards": ["random", "jpeg_size"],
            "images": {"format": "png"},
            "units": {"prompts": 2},
            "output": "out",
        },
    )


def start(folder: Path, name: str) -> int:
    """Forks a synthesis into FOLDER/NAME/out; returns its process id."""
    (folder / name).mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder / name)
        with open("log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            synth(recipe_of(folder))
            code = 0
    finally:
        os._exit(code)


class Watch:
    """Looks at the files of FOLDER/NAME/out for the stage that a call is in."""

    def __init__(self, folder: Path, name: str) -> None:
        before = Path.cwd()
        os.chdir(folder / name)
        self._plan = plan(recipe_of(folder))
        os.chdir(before)
        self._places = Places(folder / name / "out")

    def stage(self) -> str | None:
        """The first one that is not done; None after the last."""
        made = self._plan
        if (self._places.root / "synth.json").exists():
            return None
        if image_tasks(self._places, made.sources, made.units):
            return "generate"
        return "label" if score_tasks(self._places, made.sources, made.units, made.columns) else "rank"


def warm(folder: Path) -> None:
    """One synthesis in this process, so that its forks have imported all that they need, and a kill hits their work."""
    (folder / "warm").mkdir()
    before = Path.cwd()
    os.chdir(folder / "warm")
    synth(recipe_of(folder), say=lambda line: None)
    os.chdir(before)


def timed(folder: Path, name: str) -> dict[str, float]:
    """Runs without interruption; returns the seconds of each stage."""
    child, watch = start(folder, name), Watch(folder, name)
    began, seconds = time.monotonic(), dict.fromkeys(STAGES, 0.0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
        now = time.monotonic()
        seconds[watch.stage() or "rank"] += now - began
        began = now
    if watch.stage() is not None:
        sys.exit(f"the uninterrupted call failed:\n{(folder / name / 'log').read_text()}")
    return seconds


def kill_in(folder: Path, name: str, stage: str, wait: float) -> str | None:
    """Starts or goes on, and kills `wait` seconds after the stage began; returns the stage that was hit.

    None where the call had ended before.
    """
    child, watch = start(folder, name), Watch(folder, name)
    until = time.monotonic() + LONGEST
    while STAGES.index(watch.stage() or "rank") < STAGES.index(stage) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)  # a child that ended stays until it is waited for
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a call failed:\n{(folder / name / 'log').read_text()}")
    return watch.stage()


def everything(folder: Path) -> dict[str, Any]:
    """Each file of the data set by its name; ids, scores and decoded pixels of what the stages keep."""
    out = folder / "out"
    found: dict[str, Any] = {}
    for file in sorted(file for file in out.rglob("*") if file.is_file() and file.name != "lock"):
        data = file.read_bytes()
        found[str(file.relative_to(out))] = (
            [_pixels(row) for _, row in read_rows(file)] if file.suffix == ".parquet" else data
        )
    return found


def _pixels(row: dict[str, Any]) -> dict[str, Any]:
    images = row.pop("images", None) or ([row.pop("image")] if "image" in row else [])
    decoded = [Image.open(io.BytesIO(image["bytes"])) for image in images]
    return {**row, "pixels": [(image.size, hashlib.sha256(image.tobytes()).hexdigest()) for image in decoded]}


def killed(folder: Path, name: str, seconds: dict[str, float], stages: list[str], rng: random.Random) -> Counter[str]:
    """One synthesis with a kill in each of the stages; counts of the kills that hit, by stage."""
    hits: Counter[str] = Counter()
    for stage in stages:
        hit = kill_in(folder, name, stage, rng.uniform(0, 0.9) * seconds[stage])
        if hit is None:
            seconds[stage] *= 0.7  # the machine is less busy than when it was timed
            return hits
        hits[hit] += 1
    _, status = os.waitpid(start(folder, name), 0)
    if status:
        sys.exit(f"a call that went on failed:\n{(folder / name / 'log').read_text()}")
    return hits


def main(arguments: Sequence[str] | None = None) -> None:
    """One uninterrupted call, then killed ones until the asked number of kills hit, the stages in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tiny.make_sd(folder / "sd")
    texts = [captions(scene)[0] for scene in scenes("train")[: options.prompts]]
    (folder / "prompts.txt").write_text("\n".join(texts) + "\n")
    rng = random.Random(options.seed)
    warm(folder)
    seconds = timed(folder, "whole")
    expected, hits, attempt = everything(folder / "whole"), Counter[str](), 0
    while hits.total() < options.kills or not all(hits[stage] for stage in STAGES):
        attempt += 1
        if attempt > 5 + options.kills:
            sys.exit(f"{hits.total()} kills hit in {attempt} attempts ({dict(hits)})")
        short = [stage for stage in STAGES if not hits[stage]] or list(STAGES)
        hits += killed(folder, f"killed{attempt}", seconds, short, rng)
        got = everything(folder / f"killed{attempt}")
        if got != expected:
            other = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
            sys.exit(f"attempt {attempt} with seed {options.seed} ended with other files: {', '.join(other)}")
    by_stage = ", ".join(f"{hits[stage]} in {stage}" for stage in STAGES)
    lists = sum(len(rows) for name, rows in expected.items() if name.startswith("shard-"))
    done = f"{hits.total()} kills ({by_stage}) in {attempt} syntheses of {lists} lists"
    print(f"synth: {done}; ids, scores and decoded pixels identical")


if __name__ == "__main__":
    main()
