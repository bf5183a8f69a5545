"""The curves of own samples and of validation: rewards by round, ties, distance from the reference, images."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.charts import Axis, Line, chart
from pipelines.report_numbers import Point
from pipelines.report_run import RunFiles

CHANGE = "_change"
CHANGES = (CHANGE, f"{CHANGE}_low", f"{CHANGE}_high")
ROUNDS_HELP = (
    "The rewards of the rounds are of fresh prompts each, so they jump; the validation's are of the same prompts and "
    "noise every time. A reward that is not trained on should not fall while the trained one rises.",
    "Many ties leave little to train on: more candidates, or a finer reward, help. The divergence from the reference "
    "says how far the policy went for its reward; where it shoots up, look at the samples, raise beta or stop earlier.",
    "Saturation, sharpness and diversity have no good value of their own: compare with step 0. The alarms' thresholds "
    "are in evaluation.validation.alarms; alarms that spoke stand with the warnings.",
)


def round_curves(run: RunFiles, mark: Point | None) -> list[str]:
    """Charts of rounds and validations, "" or none for a run that has neither."""
    return [*_rewards(run, mark), *_changes(run, mark), *_health(run, mark), *_images(run, mark)]


def validated(run: RunFiles) -> list[str]:
    """Names of the rewards that the validation scored, in the order in which they came."""
    names = [name.removeprefix("validation/") for line in run.lines for name in line if name.startswith("validation/")]
    return [name for name in dict.fromkeys(names) if not name.endswith(CHANGES)]


def _rewards(run: RunFiles, mark: Point | None) -> Iterator[str]:
    rollout = run.recipe.rollout
    for name in dict.fromkeys(reward.name for reward in (rollout.rewards if rollout is not None else [])):
        title = f"Reward of the rounds' samples: {name}"
        yield chart(title, [Line(title, run.series(f"rollout/{name}"))], mark=mark)
    for name in validated(run):
        title = f"Validation: {name}"
        yield chart(title, [Line(title, run.series(f"validation/{name}"))], mark=mark)


def _changes(run: RunFiles, mark: Point | None) -> Iterator[str]:
    for name in validated(run):
        points = run.series(f"validation/{name}{CHANGE}")
        low, high = (dict(run.series(f"validation/{name}{end}")) for end in CHANGES[1:])
        band = [(x, low[x], high[x]) for x, _ in points if x in low and x in high]
        line = Line("change with its 95 % interval", points, band=band)
        yield chart(f"Change of {name}, same samples", [line], axis=Axis(level=0.0, level_name="step 0"), mark=mark)


def _health(run: RunFiles, mark: Point | None) -> Iterator[str]:
    counts = [Line("groups", run.series("rollout/groups"), 1), Line("ties", run.series("rollout/ties"), 2)]
    yield chart("Groups and ties of a round", counts, axis=Axis(low=0.0), mark=mark)
    title = "Divergence from the reference"
    yield chart(title, [Line(title, run.series("divergence/reference"))], axis=Axis(low=0.0), mark=mark)
    ratios = [
        Line("from the sampling policy", run.series("ratios/behaviour"), 1),
        Line("from the reference", run.series("ratios/reference"), 2),
    ]
    yield chart("Mean absolute log-ratio", ratios, axis=Axis(low=0.0), mark=mark)


def _images(run: RunFiles, mark: Point | None) -> Iterator[str]:
    shown = {
        "Saturation and clipped values": [("saturation", "mean HSV saturation"), ("clipped", "clipped values")],
        "Sharpness": [("sharpness", "Sharpness")],
        "Diversity": [("diversity", "samples of one prompt"), ("diversity_across", "of different prompts")],
    }
    for title, rows in shown.items():
        lines = [Line(words, run.series(f"images/{name}"), place) for place, (name, words) in enumerate(rows, 1)]
        yield chart(title, lines, mark=mark, note="of the validation samples")
