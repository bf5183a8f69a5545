"""Kills labelling at random moments, goes on, and compares rows and scores with an uninterrupted call.

    python tests/label_killing.py --kills 20 --seed 0 --folder DIR

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

import torch
from label_data import everything, label_data, make_shapes
from tiny_clips import make_clip

from mmpo.data.labels import read_marker

REWARDS = ("random", "shapes")


def start(folder: Path, name: str) -> int:
    """Forks a labelling, by a CLIP too where there is one; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(folder / f"{name}.log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            clip = [f"pickscore,weights={folder / 'clip'},batch_size=4"] if (folder / "clip").is_dir() else []
            label_data(folder / "data" / "data.jsonl", folder / name, *REWARDS, *clip, workers=2, batch_size=4)
            code = 0
    finally:
        os._exit(code)


def whole(folder: Path) -> float:
    """Labels without interruption; returns the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(start(folder, "whole"), 0)
    if status:
        sys.exit(f"the uninterrupted call failed:\n{(folder / 'whole.log').read_text()}")
    return time.monotonic() - began


def killed(folder: Path, name: str, kills: int, seconds: float, rng: random.Random) -> int:
    """Labels with `kills` SIGKILLs at random moments; returns how many hit a running call."""
    hits = 0
    while True:
        child = start(folder, name)
        if hits < kills:
            time.sleep(rng.uniform(0.1, 1.0) * seconds * 1.5 / (kills + 1))
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                hits += 1
                assert read_marker(folder / name) is None, "a call that was killed wrote the marker"
                continue
            return hits
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"a call that went on failed:\n{(folder / f'{name}.log').read_text()}")
        return hits


def main(arguments: Sequence[str] | None = None) -> None:
    """One uninterrupted call, then killed ones until the asked number of kills hit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--clip", action="store_true", help="a tiny CLIP beside the rewards without weights")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    folder: Path = options.folder
    make_shapes(folder / "data", options.prompts)
    if options.clip:
        make_clip(folder / "clip")
    rng = random.Random(options.seed)
    seconds = whole(folder)
    hits, attempt = 0, 0
    while hits < options.kills:
        attempt += 1
        name = f"killed{attempt}"
        hits += killed(folder, name, min(3, options.kills - hits), seconds, rng)
        if everything(folder / name) != everything(folder / "whole"):
            sys.exit(f"attempt {attempt} with seed {options.seed} ended with other rows or scores")
    marker = read_marker(folder / "whole")
    assert marker is not None
    done = f"{marker['rows']} rows in {marker['shards']} shards by {', '.join(marker['columns'])}"
    print(f"label: {hits} kills in {attempt} labellings of {done}; rows and scores identical")


if __name__ == "__main__":
    main()
