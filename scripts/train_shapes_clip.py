"""Make the built-in world's tiny CLIP, stage by stage.

    python scripts/train_shapes_clip.py contrast --run runs/shapes-clip     # rendered pictures and captions
    mmpo train-reward shapes_train_reward                                   # preferences between own samples
    python scripts/train_shapes_clip.py ship --weights FOLDER               # into the package, with new hashes

The first stage is seeded, resumes from its last save and leaves a CLIP folder in RUN/contrast. Settings are chosen with
`scripts/bench_tiny_clip.py --split tune`; test prompts are for the end.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import CLIPModel

from mmpo.shapes import checkpoints
from mmpo.shapes.making import clip, clip_export


def ship(weights: Path) -> None:
    """Replace the shipped folder by these weights and freeze the hashes."""
    shipped = Path(checkpoints.__file__).parent / "clip"
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "clip"  # with the usual permissions, which the temporary folder has not
        clip_export.save(CLIPModel.from_pretrained(weights), made)
        shutil.rmtree(shipped, ignore_errors=True)
        shutil.copytree(made, shipped, copy_function=shutil.copyfile)  # the hub library saves 0600
    checkpoints.freeze("clip")


def main() -> None:
    """Run the stages named on the command line, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=("contrast", "ship"))
    parser.add_argument("--run", type=Path, default=Path("runs/shapes-clip"), help="folder of the run's saves")
    parser.add_argument("--steps", type=int, default=clip.STEPS)
    parser.add_argument("--weights", type=Path, help="CLIP folder to ship; default: that of the stage contrast")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for stage in args.stages:
        if stage == "contrast":
            clip_export.save(clip.train(args.run, steps=args.steps), args.run / "contrast")
        else:
            ship(args.weights or args.run / "contrast")


if __name__ == "__main__":
    main()
