"""The curves of a vision-language model's run: held-out preferences, and every term and branch of its loss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelines.charts import Axis, Line, chart
from pipelines.report_charts import accuracy_chart, smooth
from pipelines.report_numbers import Point
from pipelines.report_run import VlmRun
from pipelines.vlm_words import term_name

AT_ONCE = 3
"""Lines of a chart."""
READING = (
    "Held-out accuracy is the share of pairs, not trained on, whose chosen side the training raised more than the "
    "rejected one; it should leave 50 % and flatten out. The held-out log-ratios say where that comes from: the "
    "chosen one should stay near or above 0. It often falls a little, since a loss of the difference lets both get "
    "less likely; where it keeps falling, look at the answers for broken sentences.",
    "A term of dpo begins at ln 2 = 0.693. A term that stays there while another falls is not learnt from; one at 0 "
    "has nothing left. The implied reward of a branch is beta times its log-ratio to the reference.",
)


def vlm_curves(run: VlmRun) -> str:
    """Charts of what metrics.jsonl holds, as HTML; "" where it holds nothing to draw."""
    stopped = (run.summary or {}).get("weights_step")
    mark = (float(stopped), 0.0) if stopped is not None and run.stopped else None
    shown = "".join(
        [accuracy_chart(run, mark), _ratios(run, mark), *_terms(run, mark), *_branches(run, mark), *_rest(run)]
    )
    return f'<div class="charts">{shown}</div>' if shown else ""


def _ratios(run: VlmRun, mark: Point | None) -> str:
    """The held-out "error" is −2 log-likelihood of an answer."""
    error = dict(run.series("eval/chosen_error_standard_error"))
    chosen = [(x, -y / 2) for x, y in run.series("eval/chosen_error_vs_reference")]
    rejected = [(x, -y / 2) for x, y in run.series("eval/rejected_error_vs_reference")]
    band = [(x, y - 0.98 * error[x], y + 0.98 * error[x]) for x, y in chosen if x in error]
    axis = Axis(level=0.0, level_name="the reference")
    lines = [Line("chosen", chosen, 1, band=band), Line("rejected", rejected, 2)]
    return chart("Held-out log-ratio to the reference, nats an answer", lines, axis=axis, mark=mark)


def _terms(run: VlmRun, mark: Point | None) -> Iterator[str]:
    parts = run.recipe.method.parts
    yield chart("Loss", [smooth(run, "loss", "Loss")], mark=mark)
    names = [f"{number}: {term_name(part)}" for number, part in enumerate(parts, 1)]
    marks = ["" if number == 1 else f"@{number}-{part.loss}" for number, part in enumerate(parts, 1)]
    shown: list[tuple[str, list[str], Axis]] = [
        ("Training accuracy", [f"rewards/accuracies{mark}" for mark in marks], Axis(level=0.5, level_name="a coin")),
        ("Margin of implied rewards", [f"rewards/margins{mark}" for mark in marks], Axis(level=0.0)),
    ]
    if len(parts) > 1:
        metrics = [f"loss/{number}-{part.loss}" for number, part in enumerate(parts, 1)]
        shown.insert(0, ("Loss by term", metrics, Axis()))
    for title, metrics, axis in shown:
        present = [(metric, name) for metric, name in zip(metrics, names, strict=True) if run.series(metric)]
        if len(parts) == 1:
            present = [(metric, title) for metric, _ in present]
        yield from _several(run, title, present, axis, mark)


def _branches(run: VlmRun, mark: Point | None) -> Iterator[str]:
    found = {name for line in run.lines for name in line if re.fullmatch(r"(rewards|logps)/[a-z_]+", name)}
    order = [*dict.fromkeys(["chosen", "rejected", *run.recipe.method.branches])]
    for title, group, axis in (
        ("Implied rewards", "rewards", Axis(level=0.0)),
        ("Log-likelihood of an answer", "logps", Axis()),
    ):
        present = [(f"{group}/{branch}", branch) for branch in order if f"{group}/{branch}" in found]
        yield from _several(run, title, present, axis, mark)


def _rest(run: VlmRun) -> Iterator[str]:
    norm, speed = "Gradient norm before clipping", "Tokens per second"
    yield chart(norm, [smooth(run, "grad_norm", norm)], axis=Axis(log=True))
    yield chart("Learning rate", [Line("Learning rate", run.series("learning_rate"))], axis=Axis(low=0.0))
    yield chart(speed, [smooth(run, "tokens_per_second", speed)], axis=Axis(low=0.0))


def _several(
    run: VlmRun, title: str, metrics: Sequence[tuple[str, str]], axis: Axis, mark: Point | None
) -> Iterator[str]:
    """Charts of at most three lines each; several clouds of single steps would hide the lines."""
    for start in range(0, len(metrics), AT_ONCE):
        lines = [
            smooth(run, metric, name, color) for color, (metric, name) in enumerate(metrics[start : start + AT_ONCE], 1)
        ]
        yield chart(
            title, lines if len(lines) == 1 else [replace(line, raw=()) for line in lines], axis=axis, mark=mark
        )
