"""`mmpo report`: one HTML file that holds all of a run, and asks the network for nothing."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from mmpo.citations import papers_used
from mmpo.files import write_bytes
from pipelines.charts import interval_bar
from pipelines.model_card import write_model_card
from pipelines.page import Html, table, text
from pipelines.report_charts import HEALTHY, curves
from pipelines.report_numbers import Point
from pipelines.report_parts import absent, assembled, citation_list, code, headline, origin, recipe_of, warnings_of
from pipelines.report_pictures import along_training, base_and_tuned
from pipelines.report_rounds import ROUNDS_HELP, validated
from pipelines.report_run import LORA, PIPELINE, RunFiles, read_run, read_vlm_run
from pipelines.report_usage import usage
from pipelines.report_vlm import vlm_next_command, vlm_report
from pipelines.report_words import (
    cell,
    compact,
    data_name,
    interval,
    made_pairs,
    main_measure,
    method_title,
    missing,
    number,
    outcome,
    percent,
    signed,
    unit,
    verdict,
)
from pipelines.vlm_card import write_vlm_card

REPORT = "report.html"
PROMPT = "a red circle above a blue square"


def write_report(folder: Path) -> Path:
    """Writes report.html into a run's folder, of a run in any state, and returns it; the model card is renewed.

    Raises:
        ValueError: it is no run's folder.
    """
    answers = read_vlm_run(folder)
    if answers is not None:
        write_bytes(folder / REPORT, vlm_report(answers).encode())
        if answers.weights is not None:
            write_vlm_card(folder)
        return folder / REPORT
    run = read_run(folder)
    write_bytes(folder / REPORT, report(run).encode())
    if run.weights is not None:
        write_model_card(folder)
    return folder / REPORT


def next_command(run: Path) -> str:
    """What to do after a look at the report: finish the run, score its samples, or share its weights.

    Args:
        run: its folder.
    Raises:
        ValueError: it is no run's folder.
    """
    answers = read_vlm_run(run)
    if answers is not None:
        return vlm_next_command(answers)
    files = read_run(run)
    folder, section = shlex.quote(str(run)), files.recipe.evaluation
    if files.summary is None or files.weights is None:
        resume = " --resume" if files.checkpoint is not None else ""
        return f"mmpo train {folder}{resume}"
    if files.evaluation is None and section.prompts and section.rewards:
        return f"mmpo eval {folder}"
    return f"mmpo push {folder} USER/NAME, to share the weights with their model card"


def report(run: RunFiles) -> str:
    """The whole page."""
    faults = list(run.faults)
    sections = [
        ("scores", "Scores", _scores(run)),
        ("samples", "Samples: base and tuned, same noise", _samples(run, faults)),
        ("along", "Along training", along_training(run, faults)),
        ("curves", "Curves", _curves(run)),
        ("use", "Using the weights", _use(run)),
        ("recipe", "Recipe", recipe_of(run)),
        ("origin", "Data, weights and versions", origin(run, data_name(run.recipe))),
        ("cite", "Citations", _citations(run)),
    ]
    head = [_headline(run), warnings_of(run), absent(missing(run), faults)]
    return assembled(run, head, sections)


def _headline(run: RunFiles) -> str:
    recipe = run.recipe
    kind, sentence = outcome(run)
    again = f" {_evaluated_anyway(run)}" if run.stopped and main_measure(run.evaluation) else ""
    title = f"{method_title(recipe)} on {recipe.model.path}"
    return headline(run, title, cell(recipe), (kind, sentence + again), _facts(run))


def _evaluated_anyway(run: RunFiles) -> str:
    best = main_measure(run.evaluation)
    assert best is not None
    name, row = best
    return (
        f"The weights that were kept score {number(row['tuned'])} by {name}, their base {number(row['base'])}: "
        f"{signed(row['difference'])} {interval(row)}."
    )


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    """Short numbers below the headline; empty ones are left out."""
    accuracy, error = run.series("eval/accuracy"), run.series("eval/chosen_error_vs_reference")
    speed = sorted(value for _, value in run.series("pairs_per_second") if math.isfinite(value))
    best = main_measure(run.evaluation)
    wins = best[1].get("win_rate") if best else None
    return [
        ("steps done", f"{run.steps:,} of {run.recipe.train.steps:,}"),
        (f"{unit(run.recipe)} per step", f"{run.recipe.train.batch_size:,}"),
        ("held-out accuracy, last", percent(accuracy[-1][1]) if accuracy else ""),
        ("chosen error against the reference, last", _error(run, error[-1]) if error else ""),
        (f"prompts won by tuned ({best[0]})" if best else "", percent(wins) if wins is not None else ""),
        (f"{unit(run.recipe)} per second, median", f"{speed[len(speed) // 2]:.3g}" if speed else ""),
    ]


def _error(run: RunFiles, last: Point) -> str:
    """The last chosen error, as a share of the reference's own where that was noted."""
    own = dict(run.series("eval/reference_error")).get(last[0], math.nan)
    return (
        f"{100 * last[1] / own:+.1f} %".replace("-", "−") if own and math.isfinite(last[1] / own) else compact(last[1])
    )


def _samples(run: RunFiles, faults: list[str]) -> str:
    try:
        return base_and_tuned(run)
    except (ValueError, OSError, KeyError, TypeError) as error:
        faults.append(f"evaluation.png: {error}")
        return ""


def _scores(run: RunFiles) -> str:
    measures = (run.evaluation or {}).get("measures") or {}
    if not measures:
        return ""
    head = ["measure", "base", "tuned", "difference", "95 % interval", "win rate", "", "prompts", "samples", "no score"]
    rows = []
    for name, row in measures.items():
        color = {"better": "good", "worse": "bad", "unclear": "soft"}[verdict(row)]
        wins, low, high = (row.get(key, math.nan) for key in ("win_rate", "win_low", "win_high"))
        direction = "" if row.get("higher_is_better", True) else " (lower is better)"
        mark = " ◦" if made_pairs(run.recipe, name) else ""
        cells = [f"{name}{direction}{mark}", number(row["base"]), number(row["tuned"])]
        difference = Html(f'<span class="{color}">{text(signed(row["difference"]))}</span>')
        bar = Html(interval_bar(low, wins, high))
        counts = [row["prompts"], row["samples"], row.get("failed", 0)]
        rows.append([*cells, difference, interval(row), percent(wins), bar, *counts])
    return table(head, rows) + f'<p class="soft">{text(_about_scores(run))}</p>'


def _about_scores(run: RunFiles) -> str:
    evaluation = run.evaluation or {}
    sampling, tried = evaluation.get("sampling") or {}, evaluation.get("settings_tried")
    parts = [
        f"Prompts: {evaluation.get('prompts')}, {evaluation.get('samples_per_prompt')} samples each, "
        f"{sampling.get('steps')} steps, guidance {sampling.get('guidance')}, seed {evaluation.get('seed')}.",
        "Base and tuned draw from the same noise; intervals are over prompts, so that samples of one prompt do not "
        "count as independent. The win rate is the share of prompts whose mean is higher when tuned.",
        f"Settings tried before this one: {tried if tried is not None else 'not stated (evaluation.settings_tried)'}.",
    ]
    marked = [name for name in evaluation["measures"] if made_pairs(run.recipe, name)]
    if marked:
        parts.append("◦ This reward also chose what was trained on; a measure that did not is stronger evidence.")
    return " ".join(parts)


def _curves(run: RunFiles) -> str:
    drawn = curves(run)
    rounds = run.recipe.rollout is not None
    told = [*(ROUNDS_HELP if rounds or validated(run) else ()), *(HEALTHY[1:2] if rounds else HEALTHY)]
    help_ = "".join(f"<p>{text(sentence)}</p>" for sentence in told)
    note = '<p class="soft">Strong lines are running means, faint ones single steps; rest the pointer for values.</p>'
    return f"<details open><summary>How to read them</summary>{help_}</details>{drawn}{note}" if drawn else ""


def _use(run: RunFiles) -> str:
    if run.weights is None:
        return ""
    folder = run.folder if run.weights.name == LORA else run.folder / PIPELINE
    prompt = next(iter(run.prompts()), PROMPT)
    return code(usage(run, prompt, base=None, weights=str(folder)))


def _citations(run: RunFiles) -> str:
    losses = [part.loss for part in run.recipe.method.parts]
    return citation_list(papers_used(losses, lora=run.recipe.model.lora is not None))
