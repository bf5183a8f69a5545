"""Trains the tiny VLM of the built-in world; resumes; ships and measures it.

    python scripts/train_shapes_vlm.py train ship --run runs/shapes-vlm
    python scripts/train_shapes_vlm.py evaluate --split tune

`ship` replaces the shipped folder and its hashes; every figure that rests on it must then be measured again.
`evaluate` prints the measures of the hallucination test with intervals clustered by scene, of the shipped folder or of
`--weights`. Choose on tune; test is for the end. The same seed gives the same data; weights may differ in the last bits
with the number of threads.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText

from mmpo.shapes import checkpoints
from mmpo.shapes.answer_pairs import KINDS
from mmpo.shapes.asked import drawn, exam
from mmpo.shapes.making import vlm, vlm_export
from pipelines.vlm_hallucination import ask, measure, table_lines
from pipelines.vlm_own_answers import own_answers
from rewards.vlm_model import load_vlm

NAME = "llava"


def ship(weights: Path) -> None:
    """Replace the shipped folder by these weights and freeze the hashes."""
    shipped = Path(checkpoints.__file__).parent / NAME
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / NAME  # with the usual permissions, which the temporary folder has not
        vlm_export.save(AutoModelForImageTextToText.from_pretrained(weights), made)
        shutil.rmtree(shipped, ignore_errors=True)
        shutil.copytree(made, shipped, copy_function=shutil.copyfile)  # the hub library saves 0600
    checkpoints.freeze(NAME)


def evaluate(weights: str, split: str, renders: int) -> None:
    """Print the test's table, then how often samples are right."""
    model = load_vlm(weights, dtype="float32", device="cpu")
    questions, began = exam(split, renders=renders), time.time()
    print(f"{weights}, {split}, {len(questions)} questions, greedy", flush=True)
    print("\n".join(table_lines(measure(ask(model, questions), questions))))
    print(f"{time.time() - began:.0f} s", flush=True)
    practice = list(drawn(split, 200, 7, KINDS))
    said = own_answers(model, practice, 4)
    right = [[asked.judge(answer).correct for answer in row] for asked, row in zip(practice, said, strict=True)]
    mixed = sum(0 < sum(row) < len(row) for row in right)
    print(f"samples at temperature 1: {sum(map(sum, right)) / 800:.3f} right; {mixed} of 200 questions give a pair")


def main() -> None:
    """Run the stages named on the command line, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=("train", "ship", "evaluate"))
    parser.add_argument("--run", type=Path, default=Path("runs/shapes-vlm"), help="folder of the run's saves")
    parser.add_argument("--steps", type=int, nargs=2, default=(vlm.STEPS, vlm.HABIT_STEPS), help="of words and habits")
    parser.add_argument("--weights", help="folder to ship or evaluate; default: the stage train's, or the shipped one")
    parser.add_argument("--split", default="tune", choices=("train", "tune", "test"))
    parser.add_argument("--renders", type=int, default=1, help="pictures a scene in evaluate")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of pictures and of what is asked and answered"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for stage in args.stages:
        if stage == "train":
            vlm_export.save(vlm.train(args.run, steps=tuple(args.steps), seed=args.seed), args.run / "model")
        elif stage == "ship":
            ship(Path(args.weights or args.run / "model"))
        else:
            evaluate(args.weights or f"shapes/{NAME}", args.split, args.renders)


if __name__ == "__main__":
    main()
