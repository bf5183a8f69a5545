"""The report of a run of a vision-language model: figures, answers of base and tuned, curves by term."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpo.data.images import decode
from pipelines.page import Html, picture, table, text
from pipelines.report_parts import absent, assembled, citation_list, code, headline, origin, recipe_of, warnings_of
from pipelines.report_run import ANSWERS, VlmRun
from pipelines.report_vlm_charts import READING, vlm_curves
from pipelines.report_words import interval, main_measure, number, percent, signed, verdict
from pipelines.vlm_usage import vlm_usage
from pipelines.vlm_words import direction, vlm_cell, vlm_missing, vlm_outcome, vlm_papers, vlm_title

SHOWN = 12
"""Rows of answers."""


def vlm_report(run: VlmRun) -> str:
    """The whole page."""
    faults = list(run.faults)
    sections = [
        ("scores", "Figures", _scores(run)),
        ("benchmarks", "Benchmarks", "".join(_benchmarks(run, faults))),
        ("answers", "Answers: base and tuned, held-out rows", _answers(run, faults)),
        ("curves", "Curves", _curves(run)),
        ("use", "Using the weights", _use(run)),
        ("recipe", "Recipe", recipe_of(run)),
        ("origin", "Data, weights and versions", origin(run, run.recipe.data.path)),
        ("cite", "Citations", citation_list(vlm_papers(run.recipe))),
    ]
    title = f"{vlm_title(run.recipe)} on {run.recipe.model.path}"
    head = headline(run, title, vlm_cell(run.recipe), vlm_outcome(run), _facts(run))
    return assembled(run, [head, warnings_of(run), absent(vlm_missing(run), faults)], sections)


def vlm_next_command(run: VlmRun) -> str:
    """What to do after a look at the report: finish the run, ask its models, or share its weights."""
    folder = shlex.quote(str(run.folder))
    if run.summary is None or run.weights is None:
        return f"mmpo train {folder}{' --resume' if run.checkpoint is not None else ''}"
    if run.evaluation is None:
        return f"mmpo eval {folder}"
    return f"mmpo export {folder} --to merged, to serve it; or mmpo push {folder} USER/NAME"


def _facts(run: VlmRun) -> list[tuple[str, str]]:
    """Short numbers below the headline; empty ones are left out."""
    accuracy, own = run.series("eval/accuracy"), main_measure(run.evaluation)
    speed = sorted(value for _, value in run.series("tokens_per_second") if math.isfinite(value))
    return [
        ("steps done", f"{run.steps:,} of {run.recipe.train.steps:,}"),
        ("pairs per step", f"{run.recipe.train.batch_size:,}"),
        ("held-out accuracy, last", percent(accuracy[-1][1]) if accuracy else ""),
        (f"{own[0]}, tuned{direction(own[1])}" if own else "", number(own[1]["tuned"]) if own else ""),
        ("tokens per second, median", f"{speed[len(speed) // 2]:,.0f}" if speed else ""),
    ]


def _scores(run: VlmRun) -> str:
    evaluation = run.evaluation or {}
    measures = evaluation.get("measures") or {}
    if not measures:
        return ""
    head = ["measure", "base", "tuned", "difference", "95 % interval", "over", "answers"]
    rows = [[*_figures(name, row), row["prompts"], row["samples"]] for name, row in measures.items()]
    return table(head, rows) + f'<p class="soft">{text(about_scores(evaluation))}</p>'


def about_scores(evaluation: Mapping[str, Any]) -> str:
    """What the measures of an evaluation are of, in sentences."""
    held_out, tried = evaluation.get("held_out"), evaluation.get("settings_tried")
    parts = []
    if evaluation.get("questions"):
        parts.append(
            f"The first measures are of the built-in world's test of hallucination, {evaluation['questions']}, with "
            "intervals over scenes: hallucinated is the share of descriptions that say anything that is not so, probes "
            "the accuracy on questions of presence, general on the others."
        )
    if held_out:
        parts.append(
            f"held-out/... is of {held_out['pairs']:,} pairs that were not trained on, with intervals over questions: "
            "how often a model itself finds the chosen side likelier, and the log-likelihood of a token. "
            "answers/... describes the greedy answers to some of them."
        )
    parts.append(
        f"Both models were asked the same. Settings tried before this one: "
        f"{tried if tried is not None else 'not stated (evaluation.settings_tried)'}."
    )
    return " ".join(parts)


def _figures(name: str, row: Mapping[str, Any]) -> list[object]:
    """Name, both values, difference in its colour, interval."""
    known = row["low"] is not None and row["difference"] is not None
    better = row.get("higher_is_better", True)
    kind = verdict(row) if known and better is not None else "unclear"
    color = {"better": "good", "worse": "bad", "unclear": "soft"}[kind]
    values = [number(math.nan if row[key] is None else row[key]) for key in ("base", "tuned")]
    gap = signed(row["difference"]) if row["difference"] is not None else "–"
    return [
        f"{name}{direction(row)}",
        *values,
        Html(f'<span class="{color}">{text(gap)}</span>'),
        interval(row) if known else "–",
    ]


def benchmarks(run: VlmRun, faults: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file's name, content) of what `mmpo eval RUN --benchmark` left, in the files' order.

    Args:
        faults: is told of files that cannot be read.
    """
    for file in sorted(run.folder.glob("evaluation-*.json")):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(found["parts"], dict) and "against" in found:
                yield file.name, found
        except (ValueError, KeyError, TypeError) as error:
            faults.append(f"{file.name} cannot be read ({error})")


def _benchmarks(run: VlmRun, faults: list[str]) -> Iterator[str]:
    for name, found in benchmarks(run, faults):
        yield f"<h3>{text(found.get('benchmark', name))}</h3>"
        for part, measures in found["parts"].items():
            rows = [[*_figures(unit_name(label, row), row), row["clusters"]] for label, row in measures.items()]
            yield table([part, "base", "tuned", "difference", "95 % interval", "clusters"], rows)
        said = [f"{found.get('answered')} of {found.get('of')} questions, greedy.", *found.get("notes", [])]
        yield f'<p class="soft">{text(" ".join(said))}</p>'


def unit_name(name: str, row: Mapping[str, Any]) -> str:
    """A measure's name with its unit."""
    unit = row.get("unit", "")
    return name if unit in ("", name) else f"{name} %" if unit == "%" else f"{name}, {unit}"


def _answers(run: VlmRun, faults: list[str]) -> str:
    file = run.folder / "answers" / ANSWERS
    if run.evaluation is None or not file.is_file():
        return ""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        changed = sum(row["base"] != row["tuned"] for row in rows)
        figures = "".join(_row(file.parent, row) for row in rows[:SHOWN])
    except (ValueError, KeyError, TypeError, OSError) as error:
        faults.append(f"answers/{ANSWERS} cannot be read ({error})")
        return ""
    if not rows:
        return ""
    note = (
        f"{changed} of {len(rows)} greedy answers are not the base's; the first {min(SHOWN, len(rows))} rows are shown."
    )
    return f'<div class="answers">{figures}</div><p class="soft">{text(note)}</p>'


def _row(folder: Path, row: Mapping[str, Any]) -> str:
    pictures = "".join(
        picture(decode((folder / Path(name).name).read_bytes()), str(row["question"])) for name in row["images"]
    )
    same = row["base"] == row["tuned"]
    said = [("base and tuned", row["base"])] if same else [("base", row["base"]), ("tuned", row["tuned"])]
    said += [("chosen", row["chosen"]), ("rejected", row["rejected"])]
    lines = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value) if value else '<i>nothing</i>'}</dd>"
        for name, value in said
        if value is not None or name not in ("chosen", "rejected")
    )
    return f"<figure><div>{pictures}</div><div><b>{text(row['question'])}</b><dl>{lines}</dl></div></figure>"


def _curves(run: VlmRun) -> str:
    drawn = vlm_curves(run)
    help_ = "".join(f"<p>{text(sentence)}</p>" for sentence in READING)
    note = '<p class="soft">Strong lines are running means, faint ones single steps; rest the pointer for values.</p>'
    return f"<details open><summary>How to read them</summary>{help_}</details>{drawn}{note}" if drawn else ""


def _use(run: VlmRun) -> str:
    return code(vlm_usage(run, weights=str(run.weights))) if run.weights is not None else ""
