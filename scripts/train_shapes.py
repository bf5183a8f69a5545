"""Make the built-in world's tiny Stable Diffusion checkpoint from scratch, stage by stage.

    python scripts/train_shapes.py vae text unet export evaluate --run runs/shapes-sd

Every stage is seeded, resumes from its last save in the run folder, and can be run alone. `export --ship` writes
into the package and freezes the hashes. Settings are chosen on tune prompts; `evaluate --split test` is for the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mmpo.shapes import checkpoints
from mmpo.shapes.making import evaluate, export, text, unet, vae
from mmpo.shapes.prompts import prompts

STAGES = ("vae", "text", "unet", "export", "evaluate")
STEPS = {"vae": 4500, "text": 2000, "unet": 6000}
# Last step and share of spoilt pictures of each part of the UNet's training. The share alone sets how often the
# verifier accepts a sample: guidance, as well as training, makes clean pictures more frequent than they were.
SPOILT = ((4000, 0.75), (6000, 0.85))


def average_of(folder: Path, model: torch.nn.Module) -> torch.nn.Module:
    """`model` with the averaged weights of a stage's last save."""
    path = folder / "state.pt"
    if not path.is_file():
        raise ValueError(f"{path} is missing; run the stage '{folder.name}' first")
    model.load_state_dict(torch.load(path, weights_only=True)["average"])
    return model.eval().requires_grad_(False)


def parts(run: Path) -> tuple[AutoencoderKL, CLIPTextModel, CLIPTokenizer]:
    """Autoencoder with normalised latents, text tower and tokenizer of a run."""
    autoencoder = average_of(run / "vae", vae.build())
    assert isinstance(autoencoder, AutoencoderKL)
    tokenizer = CLIPTokenizer.from_pretrained(run / "tokenizer")
    tower = CLIPTextModel.from_pretrained(run / "text" / "model").eval()
    return export.normalise(autoencoder), tower, tokenizer


def train_unet(run: Path, steps: int) -> None:
    """The stage `unet`, with a look at tune prompts now and then."""
    autoencoder, tower, tokenizer = parts(run)

    def look(step: int, average: torch.nn.Module) -> None:
        assert isinstance(average, UNet2DConditionModel)
        if step % 2000 == 0:
            pipe = export.pipeline(autoencoder, tower, tokenizer, average)
            row = evaluate.measure(pipe, prompts("tune"), guidance=2.0, seeds=[0])
            print("tune", step, json.dumps(row), flush=True)

    for until, rate in SPOILT:
        until = min(until, steps) if until != SPOILT[-1][0] else steps
        data = unet.encode(autoencoder, tower, tokenizer, run, count=unet.PICTURES, seed=3, defect_rate=rate)
        unet.train(data, run, steps=steps, until=until, after_save=look)


def export_run(run: Path, ship: bool) -> None:
    """Write the pipeline folder `run/sd`, and ship it when asked."""
    autoencoder, tower, tokenizer = parts(run)
    model = average_of(run / "unet", unet.build())
    assert isinstance(model, UNet2DConditionModel)
    export.save(export.pipeline(autoencoder, tower, tokenizer, model), run / "sd", run / "tokenizer")
    if ship:
        shipped = Path(checkpoints.__file__).parent / "sd"
        shutil.rmtree(shipped, ignore_errors=True)
        shutil.copytree(run / "sd", shipped, copy_function=shutil.copyfile)  # the hub library saves 0600
        checkpoints.freeze("sd")


def evaluate_folder(folder: Path, split: str, guidances: list[float], num_seeds: int) -> None:
    """Print one line of measures per guidance scale."""
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    for guidance in guidances:
        row = evaluate.measure(pipe, prompts(split), guidance=guidance, seeds=range(100, 100 + num_seeds))
        print(split, json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)


def main() -> None:
    """Run the stages named on the command line, in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run's saves")
    parser.add_argument("--steps", type=int, help="of the stage, in total; only with one training stage")
    parser.add_argument("--ship", action="store_true", help="export into the package and freeze the hashes")
    parser.add_argument("--split", default="tune")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.steps is not None and sum(stage in STEPS for stage in args.stages) != 1:
        parser.error("--steps needs exactly one of the stages vae, text, unet")
    for stage in args.stages:
        steps = args.steps or STEPS.get(stage, 0)
        if stage == "vae":
            vae.train(args.run, steps=steps)
        elif stage == "text":
            print("tune captions read without a mistake:", text.train(args.run, steps=steps))
        elif stage == "unet":
            train_unet(args.run, steps)
        elif stage == "export":
            export_run(args.run, args.ship)
        else:
            evaluate_folder(args.run / "sd", args.split, args.guidance, args.num_seeds)


if __name__ == "__main__":
    main()
