"""The curves of a report: which metrics stand in which chart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipelines.charts import Axis, Line, chart
from pipelines.report_numbers import Point, running_mean
from pipelines.report_rounds import round_curves
from pipelines.report_run import RunData, RunFiles

SMOOTHED_FROM = 30
BAND = "eval/accuracy@t["
HEALTHY = (
    "Held-out accuracy should leave 50 % and flatten out; its pairs are of prompts that were not trained on. The "
    "chosen error should stay below the rejected one and near 0. It often rises a little, since a loss of the "
    "difference lets both images get worse; where it keeps rising, look at the samples for noise and burnt colours.",
    "The loss begins at its value without any preference (ln 2 = 0.693 for dpo) and falls slowly and noisily; one "
    "that is at 0 has nothing left to learn from. The margin should grow while the gradient norm stays in one order "
    "of magnitude.",
    "The lowest noise levels decide texture, the highest decide layout: by band one sees where the preference is "
    "learnt. A curve at 50 % there is no fault by itself.",
)


def curves(run: RunFiles) -> str:
    """Charts of everything that metrics.jsonl holds, as HTML; "" where it holds nothing to draw."""
    stopped = (run.summary or {}).get("weights_step")
    mark = (float(stopped), 0.0) if stopped is not None and run.stopped else None
    main = [accuracy_chart(run, mark), _errors(run, mark), *round_curves(run, mark), *_training(run, mark)]
    shown = "".join(main)
    return f'<div class="charts">{shown}</div>{_bands(run)}' if shown else ""


def accuracy_chart(run: RunData[Any], mark: Point | None) -> str:
    """Held-out accuracy with its interval."""
    points = run.series("eval/accuracy")
    low, high = dict(run.series("eval/accuracy_low")), dict(run.series("eval/accuracy_high"))
    band = [(x, low[x], high[x]) for x, _ in points if x in low and x in high]
    line = Line("accuracy with its 95 % interval", points, band=band)
    axis = Axis(level=0.5, level_name="a coin")
    return chart("Held-out preference accuracy", [line], axis=axis, mark=mark)


def _errors(run: RunFiles, mark: Point | None) -> str:
    chosen, error = run.series("eval/chosen_error_vs_reference"), dict(run.series("eval/chosen_error_standard_error"))
    band = [(x, y - 1.96 * error[x], y + 1.96 * error[x]) for x, y in chosen if x in error]
    rejected = run.series("eval/rejected_error_vs_reference")
    lines = [Line("chosen", chosen, 1, band=band), Line("rejected", rejected, 2)]
    axis = Axis(level=0.0, level_name="the reference")
    return chart("Held-out error minus the reference's", lines, axis=axis, mark=mark)


def _training(run: RunFiles, mark: Point | None) -> list[str]:
    rewards = [smooth(run, "rewards/chosen", "chosen", 1), smooth(run, "rewards/rejected", "rejected", 2)]
    rewards = [replace(line, raw=()) for line in rewards]  # two clouds over each other hide both lines
    coin, zero = Axis(level=0.5, level_name="a coin"), Axis(level=0.0)
    return [
        chart("Loss", [smooth(run, "loss", "Loss")], mark=mark),
        chart("Training accuracy", [smooth(run, "rewards/accuracies", "Training accuracy")], axis=coin, mark=mark),
        chart("Margin of implied rewards", [smooth(run, "rewards/margins", "Margin of implied rewards")], axis=zero),
        chart("Implied rewards", rewards, axis=zero, mark=mark),
        chart(
            "Gradient norm before clipping",
            [smooth(run, "grad_norm", "Gradient norm before clipping")],
            axis=Axis(log=True),
            mark=mark,
        ),
        chart("Learning rate", [Line("Learning rate", run.series("learning_rate"))], axis=Axis(low=0.0)),
        chart("Pairs per second", [smooth(run, "pairs_per_second", "Pairs per second")], axis=Axis(low=0.0)),
    ]


def _bands(run: RunFiles) -> str:
    """One small chart a quarter of the noise levels, all on one scale."""
    names = sorted({name for line in run.lines for name in line if name.startswith(BAND)})
    axis = Axis(low=0.0, high=1.0, level=0.5)
    charts = []
    for number, name in enumerate(names):
        place = "cleanest" if number == 0 else "noisiest" if number == len(names) - 1 else ""
        levels = name.removeprefix(BAND).rstrip("]").replace("-", "–")
        title = f"Accuracy, noise {levels}"
        charts.append(chart(title, [Line(title, run.series(name))], axis=axis, note=place))
    return f'<div class="charts small">{"".join(charts)}</div>' if any(charts) else ""


def smooth(run: RunData[Any], metric: str, name: str, color: int = 1) -> Line:
    """A noisy metric as its running mean, with the raw line behind it; short ones as they are."""
    points = run.series(metric)
    if len(points) < SMOOTHED_FROM:
        return Line(name, points, color)
    window = max(5, len(points) // 25)
    return Line(name, running_mean(points, window), color, raw=points)
