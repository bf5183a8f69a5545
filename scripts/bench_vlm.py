"""DPO of a vision-language model: tokens per second and peak memory of mmpo's step and of TRL's DPOTrainer.

    python scripts/bench_vlm.py --trl-python ENV/bin/python           # pip install -c constraints.txt 'mmpo[bench]'
    python scripts/bench_vlm.py --vocabularies 32000 --sides mmpo     # one side, one vocabulary

The same random LLaVA (576 image tokens), the same rows in the same order, LoRA of the same rank on the language model's
linear layers, the reference by switching the adapters off, AdamW, float32, no gradient checkpointing, one process per
side and vocabulary. A step is from one optimiser step's end to the next one's, with reading images; the first is not
counted. Seconds are of the processor (with one thread hardly changed by what else runs) and of the clock. Tokens are
those of all branches as a trainer without sharing sees them: prompt, image and answer of the chosen and rejected,
for both sides alike. Memory is the resident set: after loading, and its peak while stepping. As a check that
both compute the same, the mean log-probability of the first step's chosen answers is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any


def resident(name: str) -> float:
    """MB of this process: "VmRSS" now, or "VmHWM", the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_peak() -> None:
    """Begins the peak anew, so that loading is not in it."""
    Path("/proc/self/clear_refs").write_text("5")


def child(given: argparse.Namespace) -> None:
    """One side with one vocabulary; prints a line of JSON last."""
    import torch
    from bench_vlm_model import make_rows
    from bench_vlm_sides import SIDES, count_tokens

    torch.set_num_threads(given.threads)
    rows = make_rows(given.batch * given.steps, given.letters)
    ready: dict[str, float] = {}

    def loaded() -> None:
        forget_peak()
        ready["loaded_mb"] = resident("VmRSS")

    ends, logp = SIDES[given.child](given, rows, loaded)
    peak = resident("VmHWM")
    wall, busy = (statistics.median(b - a for a, b in pairwise(clock)) for clock in zip(*ends, strict=True))
    tokens = statistics.mean(count_tokens(given.folder, rows)) * given.batch
    found = {"wall": wall, "busy": busy, "tokens": tokens, **ready, "peak_mb": peak, "logp": logp}
    print(json.dumps({"side": given.child, "vocabulary": given.vocabulary, **found}))


def one(given: argparse.Namespace, side: str, vocabulary: int, folder: Path) -> dict[str, Any]:
    """Runs a side in a process of its own."""
    python = given.trl_python if side == "trl" else sys.executable
    command = [python, __file__, "--child", side, "--vocabulary", vocabulary, "--folder", folder]
    for name in ("batch", "steps", "letters", "threads"):
        command += [f"--{name}", getattr(given, name)]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side}, vocabulary {vocabulary}: ended with {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--sides", nargs="+", choices=["mmpo", "trl"], default=["mmpo", "trl"])
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter of an environment with TRL")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch", type=int, default=2, help="pairs per step")
    parser.add_argument("--steps", type=int, default=4, help="the first is not counted")
    parser.add_argument("--letters", type=int, default=96, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    for name in ("child", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def line(found: dict[str, Any]) -> str:
    """One run of one side."""
    rates = " and ".join(f"{found['tokens'] / found[clock]:.0f}" for clock in ("busy", "wall"))
    return (
        f"{found['side']:5} vocabulary {found['vocabulary']:,}: {rates} tokens per second of the processor and of the "
        f"clock ({found['tokens']:.0f} tokens, {found['busy']:.2f} and {found['wall']:.2f} s a step), peak "
        f"{found['peak_mb']:.0f} MB ({found['peak_mb'] - found['loaded_mb']:+.0f} since loaded), first logp "
        f"{found['logp']:.4f}, load {os.getloadavg()[0]:.1f}"
    )


def ratio(runs: dict[str, list[dict[str, Any]]]) -> str:
    """mmpo's median over TRL's: tokens a second by either clock, and memory, whole and since loaded."""

    def middle(side: str, figure: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(figure, runs[side]))

    figures: dict[str, Callable[[dict[str, Any]], float]] = {
        "tokens a second of the processor": lambda one: one["tokens"] / one["busy"],
        "tokens a second of the clock": lambda one: one["tokens"] / one["wall"],
        "peak": lambda one: one["peak_mb"],
        "peak since loaded": lambda one: one["peak_mb"] - one["loaded_mb"],
    }
    parts = (
        f"{name} {middle('mmpo', figure):.0f} / {middle('trl', figure):.0f} = "
        f"{middle('mmpo', figure) / middle('trl', figure):.2f}"
        for name, figure in figures.items()
    )
    return f"mmpo / TRL, vocabulary {runs['mmpo'][0]['vocabulary']:,}, medians: {', '.join(parts)}"


def main() -> None:
    """All vocabularies in turn, the sides alternating, the first of a repetition being the last of the one before."""
    given = parse()
    if given.child:
        child(given)
        return
    from bench_vlm_model import save_model

    print(f"{platform.machine()}, {given.threads} threads, load {os.getloadavg()[0]:.1f}, {vars(given)}")
    for vocabulary in given.vocabularies:
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in given.sides}
        with tempfile.TemporaryDirectory() as place:
            folder = save_model(Path(place), vocabulary, width=given.width, layers=given.layers)
            for repetition in range(given.repeats):
                for side in given.sides[:: -1 if repetition % 2 else 1]:
                    runs[side].append(one(given, side, vocabulary, folder))
                    print(line(runs[side][-1]), flush=True)
        if len(given.sides) > 1:
            print(ratio(runs), flush=True)


if __name__ == "__main__":
    main()
