"""Which of two own samples the verifier prefers, told from what the base predicts of them after noise.

    python scripts/bench_step_aware.py --split tune --plain shapes/clip --trained runs/shapes-step-aware
    python scripts/bench_step_aware.py ... --control runs/shapes-step-aware-control    # trained alike, without timestep

Both samples of a pair (a correct and an incorrect one of one prompt, CFG 2, 20 DDIM steps) get the same noise at t and
one guided prediction; the rewards score the two decoded predictions. Accuracy of the order, intervals clustered by
prompt. Settings are chosen on tune; test is read once. A plain CLIP runs through the same code, as it equals a
step-aware one at the start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mmpo.data.images import decode
from mmpo.data.readers import ReadReport, open_pairs, read_open
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline
from mmpo.recipe import Data, OwnSamples, RewardSpec, Sampling
from mmpo.records import Group, content_id
from mmpo.shapes.checkpoints import frozen_hashes
from mmpo.training.statistics import clustered_mean
from pipelines.own_samples import is_made, make_pairs
from rewards.predicted_images import PredictedImages
from rewards.step_aware import StepAware

TIMES = (0, 251, 501, 701, 951)
HIGH = (501, 701, 951)
BASE = "shapes/sd"


def own_pairs(folder: Path, split: str) -> list[Group]:
    """Pairs of a correct and an incorrect sample of the base, six samples a prompt; made first where they are not."""
    make = OwnSamples(
        prompts=f"shapes/{split}",
        per_prompt=6,
        reward=RewardSpec(name="shapes", measure="correct"),
        margin=0.5,
        pairs="all",
        max_pairs_per_prompt=9,
        sampling=Sampling(steps=20, guidance=2.0, batch_size=100),
    )
    data, model = Data(path=str(folder), make=make), {"model": BASE, "weights": content_id(frozen_hashes("sd"))}
    if not is_made(data, model):
        make_pairs(data, model, lambda: load_pipeline(read_config(BASE), dtype=torch.float32), print)
    return list(read_open(open_pairs(str(folder)), report=ReadReport()))


def margins_at(
    t: int, visit: int, pairs: Sequence[Group], predicted: PredictedImages, models: Mapping[str, StepAware], size: int
) -> dict[str, np.ndarray]:
    """Per model [N]: how much higher the prediction of the correct sample scores.

    Args:
        visit: another number is another noise.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        images = torch.stack(
            [torch.stack([torch.from_numpy(np.array(decode(c.image))) for c in group.candidates]) for group in part]
        ).permute(0, 1, 4, 2, 3)
        prompts = [group.prompt.text for group in part]
        draw = predicted.draw([group.id for group in part], [visit] * len(part), 2, timestep=t)
        pixels = predicted(images, prompts, draw).flatten(0, 1)
        for name, model in models.items():
            with torch.no_grad():
                scores = model.score_pixels(pixels, [text for text in prompts for _ in range(2)], [t] * len(pixels))
            chosen, rejected = scores.view(-1, 2).T.double().numpy()
            found[name].append(chosen - rejected)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def right(margins: np.ndarray) -> np.ndarray:
    """1 where the order is right, 0 where it is wrong, ½ where the scores are the same."""
    return 0.5 + 0.5 * np.sign(margins)


def surprise(margins: np.ndarray) -> np.ndarray:
    """−log of the probability of the right order, ln 2 of a coin."""
    return np.logaddexp(0, -margins)


def table(values: Mapping[int, Mapping[str, np.ndarray]], clusters: Sequence[str], names: Sequence[str]) -> list[str]:
    """Rows by timestep: the mean of each model, then the step-aware one's difference from each other."""
    against = [name for name in names if name != "step-aware"]
    heads = [*names, *(f"step-aware − {name}" for name in against)]
    lines = [f"| t | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    groups = [(str(t), [t]) for t in values]
    high = [t for t in HIGH if t in values]
    if len(high) > 1:
        groups.append((f"mean of {', '.join(map(str, high))}", high))
    for title, times in groups:
        means = {name: np.mean([values[t][name] for t in times], axis=0) for name in names}
        cells = [clustered_mean(means[name], clusters) for name in names]
        gains = [clustered_mean(means["step-aware"] - means[name], clusters) for name in against]
        said = [f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in cells]
        said += [f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for gain in gains]
        lines.append(f"| {title} | {' | '.join(said)} |")
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="tune", choices=["tune", "test"])
    parser.add_argument("--plain", default="shapes/clip", help="CLIP folder that the step-aware model started from")
    parser.add_argument("--trained", required=True, help="folder of the step-aware model")
    parser.add_argument("--control", help="CLIP folder trained on the same predictions, not told the timestep")
    parser.add_argument("--data", type=Path, help="folder of the pairs; default: runs/bench-step-aware/SPLIT")
    parser.add_argument("--timesteps", type=int, nargs="+", default=list(TIMES))
    parser.add_argument("--draws", type=int, default=2, help="noises of each pair and timestep")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folders = {"plain": options.plain, "control": options.control, "step-aware": options.trained}
    models = {name: StepAware(weights=place, device="cpu") for name, place in folders.items() if place}
    pairs = own_pairs(options.data or Path("runs/bench-step-aware") / options.split, options.split)
    config = read_config(BASE)
    predicted = PredictedImages(
        load_pipeline(config, dtype=torch.float32), config, guidance=2.0, resolution=config.resolution, seed=1000
    )
    start = time.monotonic()
    found = {
        t: [margins_at(t, visit, pairs, predicted, models, options.batch_size) for visit in range(options.draws)]
        for t in options.timesteps
    }
    clusters = [group.prompt.cluster for group in pairs]
    took = f"{options.draws} noises, {time.monotonic() - start:.0f} s"
    print(f"{options.split}: {len(pairs)} pairs of {len(set(clusters))} prompts, {took}")
    for title, measure in (("accuracy", right), ("-log p of the right order", surprise)):
        values = {
            t: {name: np.mean([measure(draw[name]) for draw in draws], axis=0) for name in models}
            for t, draws in found.items()
        }
        print("\n".join(["", title, *table(values, clusters, list(models))]))


if __name__ == "__main__":
    main()
