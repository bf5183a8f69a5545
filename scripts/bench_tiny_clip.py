"""How well a CLIP folder ranks pictures of the built-in world, as a reward: exp(logit_scale) · cosine.

    python scripts/bench_tiny_clip.py --split tune
    python scripts/bench_tiny_clip.py --clip runs/shapes-clip/clip --split tune --samples runs/own-samples

Two accuracies, intervals clustered by prompt: pairs of the base's own samples that the verifier separates (all pairs of
a correct and an incorrect sample of one prompt), and rendered pictures against captions with one thing changed; beside
them rendered clean against spoilt pictures under the true caption. Settings are chosen on tune; test is read once.
`--samples` keeps the own samples in a folder and reads them from there the next time.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmpo.data.images import decode
from mmpo.data.pairing import all_pairs
from mmpo.data.shards import read_rows
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline
from mmpo.recipe import Sampling
from mmpo.records import content_id
from mmpo.shapes.checkpoints import checkpoint_path, frozen_hashes
from mmpo.shapes.corruption import CHANGES, corrupted
from mmpo.shapes.defects import DEFECTS
from mmpo.shapes.grammar import captions
from mmpo.shapes.prompts import prompts, scenes
from mmpo.shapes.render import render
from mmpo.shapes.verifier import verify
from mmpo.training.statistics import clustered_mean
from pipelines.generate import generate

Scorer = Callable[[list[Image.Image], list[str]], np.ndarray]


def load_scorer(folder: Path) -> Scorer:
    """`score(images, texts)` -> float64 array [N], by transformers alone."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)

    @torch.no_grad()
    def score(images: list[Image.Image], texts: list[str]) -> np.ndarray:
        found = []
        for start in range(0, len(images), 256):
            part = processor(
                images=images[start : start + 256], text=texts[start : start + 256], return_tensors="pt",
                padding="max_length", truncation=True,
            )  # fmt: skip
            output = model(**part)
            cosine = (output.image_embeds * output.text_embeds).sum(-1)  # transformers returns unit vectors
            found.append(model.logit_scale.exp() * cosine)
        return torch.cat(found).double().numpy()

    return score


def own_samples(folder: Path, split: str, per_prompt: int, seed: int) -> Iterator[dict[str, list]]:
    """Per prompt of the split: the base's samples (CFG 2, 20 steps), its text, and whether each is correct."""
    generate(
        load_pipeline(read_config("shapes/sd"), dtype=torch.float32),
        prompts(split),
        per_prompt,
        Sampling(steps=20, guidance=2.0, batch_size=100),
        seed=seed,
        model={"model": "shapes/sd", "weights": content_id(frozen_hashes("sd"))},
        folder=folder,
    )
    by_prompt: dict[str, list[dict]] = {}
    for _, row in read_rows(folder):
        by_prompt.setdefault(row["key"], []).append(row)
    for rows in by_prompt.values():
        images, texts = [decode(row["image"]["bytes"]) for row in rows], [row["prompt"] for row in rows]
        right = [verify(image, text).correct for image, text in zip(images, texts, strict=True)]
        yield {"images": images, "texts": texts, "key": [row["key"] for row in rows], "right": right}


def sample_pairs(score: Scorer, groups: Iterator[dict[str, list]]) -> tuple[list[float], list[str]]:
    """1, 0, or .5 for a tie, of each pair of a correct and an incorrect sample of one prompt; and its cluster."""
    wins, clusters = [], []
    for group in groups:
        values = score(group["images"], group["texts"])
        for better, worse in all_pairs([float(right) for right in group["right"]], margin=0.5):
            wins.append(0.5 + 0.5 * float(np.sign(values[better] - values[worse])))
            clusters.append(group["key"][0])
    return wins, clusters


def rendered(score: Scorer, split: str, seeds: int) -> dict[str, tuple[list[float], list[str]]]:
    """The same for rendered pictures: against corrupted captions, by change, and against spoilt pictures, by defect."""
    found: dict[str, tuple[list[float], list[str]]] = {}
    for name in (*CHANGES, *DEFECTS):
        better: list[tuple[Image.Image, str]] = []
        worse: list[tuple[Image.Image, str]] = []
        clusters: list[str] = []
        for scene in scenes(split):
            rng = random.Random(f"bench/{scene.key}/{name}")
            for number in range(seeds):
                text = captions(scene)[number % 4]
                image, drawn = render(scene, 40_000 + number), number % 4
                better.append((image, text))
                if name in CHANGES:
                    worse.append((image, captions(corrupted(scene, rng, name))[drawn]))
                else:
                    worse.append((render(scene, 50_000 + number, defect=name), text))
                clusters.append(scene.key)
        scores = [score([image for image, _ in side], [text for _, text in side]) for side in (better, worse)]
        found[name] = ((0.5 + 0.5 * np.sign(scores[0] - scores[1])).tolist(), clusters)
    return found


def line(name: str, wins: list[float], clusters: list[str]) -> str:
    """One row of the table."""
    mean = clustered_mean(wins, clusters)
    return f"| {name} | {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}] | {len(wins)} | {len(set(clusters))} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="CLIP folder; default: the shipped one")
    parser.add_argument("--split", default="tune", choices=["train", "tune", "test"])
    parser.add_argument("--samples", type=Path, help="folder of the own samples; default: runs/bench-tiny-clip/SPLIT")
    parser.add_argument("--per-prompt", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the own samples")
    parser.add_argument("--renders", type=int, default=4, help="pictures a scene for each change and defect")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    score = load_scorer(options.clip or checkpoint_path("clip"))
    folder = options.samples or Path("runs/bench-tiny-clip") / options.split
    print(f"| {options.split} | accuracy [95 %] | pairs | prompts |\n|---|---|---|---|")
    groups = own_samples(folder, options.split, options.per_prompt, options.seed)
    print(line("own samples, correct against incorrect", *sample_pairs(score, groups)), flush=True)
    parts = rendered(score, options.split, options.renders)
    for title, names in (("right against corrupted caption", CHANGES), ("clean against spoilt picture", DEFECTS)):
        wins = [win for name in names for win in parts[name][0]]
        print(line(f"rendered, {title}", wins, [key for name in names for key in parts[name][1]]))
        for name in names:
            print(line(f"&nbsp;&nbsp;{name}", *parts[name]))


if __name__ == "__main__":
    main()
