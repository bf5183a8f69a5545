"""Which of two own samples the verifier prefers, told from what the base predicts of them after noise.

    python scripts/bench_step_aware.py --split tune --plain shapes/clip --trained runs/shapes-step-aware
    python scripts/bench_step_aware.py ... --control runs/shapes-step-aware-control    # trained alike, without timestep

Both samples of a pair (a correct and an incorrect one of one prompt, CFG 2, 20 DDIM steps) get the same noise at t and
one guided prediction; the rewards score the two decoded predictions. Accuracy of the order, and PickScore's loss, which
asks for how sure to be, too; intervals clustered by prompt. Beside the plain CLIP's loss stands the least it could have
if its scores were scaled at each timestep, the scale fitted on these very pairs. Settings are chosen on tune; test is
read once. A plain CLIP runs through the same code, as it equals a step-aware one at the start.
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
    """Per model [N]: how much higher the prediction of the correct sample scores than the incorrect one's.

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


def losses(margins: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """PickScore's loss of margins of any shape, the scores scaled."""
    return np.logaddexp(0, -scale * margins)


def best_scale(margins: np.ndarray) -> float:
    """The factor of the scores at which these margins' mean loss is least."""
    return float(min(np.geomspace(0.01, 4, 400), key=lambda scale: losses(margins, scale).mean()))


def table(numbers: Mapping[int, Mapping[str, np.ndarray]], clusters: Sequence[str], title: str) -> list[str]:
    """Rows by timestep: each column's mean over pairs, then the step-aware one's difference to each other one.

    Args:
        numbers: by timestep and column, [draws, N].
    """
    names = list(next(iter(numbers.values())))
    against = [name for name in names if name != "step-aware"]
    heads = [*names, *(f"step-aware − {name}" for name in against)]
    lines = [title, "", f"| t | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    groups = [(str(t), [t]) for t in numbers]
    high = [t for t in HIGH if t in numbers]
    if len(high) > 1:
        groups.append((f"mean of {', '.join(map(str, high))}", high))
    for head, times in groups:
        means = {name: np.mean([numbers[t][name].mean(axis=0) for t in times], axis=0) for name in names}
        cells = [clustered_mean(means[name], clusters) for name in names]
        gains = [clustered_mean(means["step-aware"] - means[name], clusters) for name in against]
        said = [f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in cells]
        said += [f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for gain in gains]
        lines.append(f"| {head} | {' | '.join(said)} |")
    return lines


def report(margins: Mapping[int, Mapping[str, np.ndarray]], clusters: Sequence[str]) -> list[str]:
    """Both tables, of margins by timestep and model, [draws, N]."""
    wins = {t: {name: 0.5 + 0.5 * np.sign(m) for name, m in at.items()} for t, at in margins.items()}
    surprise = {
        t: {
            "plain": losses(at["plain"]),
            "plain, best scale": losses(at["plain"], best_scale(at["plain"])),
            **{name: losses(m) for name, m in at.items() if name != "plain"},
        }
        for t, at in margins.items()
    }
    return [*table(wins, clusters, "Accuracy"), "", *table(surprise, clusters, "Loss (a coin's is 0.693)")]


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
    margins = {}
    for t in options.timesteps:
        draws = [margins_at(t, visit, pairs, predicted, models, options.batch_size) for visit in range(options.draws)]
        margins[t] = {name: np.stack([draw[name] for draw in draws]) for name in models}
    clusters = [group.prompt.cluster for group in pairs]
    took = f"{options.draws} noises, {time.monotonic() - start:.0f} s"
    print(f"{options.split}: {len(pairs)} pairs of {len(set(clusters))} prompts, {took}")
    print("\n".join(report(margins, clusters)))


if __name__ == "__main__":
    main()
