"""`mmpo report`: one HTML file that holds all of a run, and asks the network for nothing."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from mmpo.citations import CITATIONS, bibtex, papers_used
from mmpo.files import write_bytes
from pipelines.charts import interval_bar
from pipelines.model_card import write_model_card
from pipelines.page import Html, page, table, text
from pipelines.report_charts import HEALTHY, curves
from pipelines.report_numbers import Point
from pipelines.report_pictures import along_training, base_and_tuned
from pipelines.report_rounds import ROUNDS_HELP, validated
from pipelines.report_run import LORA, PIPELINE, RunFiles, read_run
from pipelines.report_usage import usage
from pipelines.report_words import (
    cell,
    compact,
    data_name,
    interval,
    made_pairs,
    main_measure,
    method_title,
    missing,
    not_finite,
    number,
    outcome,
    percent,
    signed,
    unit,
    verdict,
)

REPORT = "report.html"
PROMPT = "a red circle above a blue square"


def write_report(folder: Path) -> Path:
    """Writes report.html into a run's folder, of a run in any state, and returns it; the model card is renewed.

    Raises:
        ValueError: it is no run's folder.
    """
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
        ("recipe", "Recipe", f"<details open><summary>recipe.yaml</summary>{_code(run.recipe_text)}</details>"),
        ("origin", "Data, weights and versions", _origin(run)),
        ("cite", "Citations", _citations(run)),
    ]
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{text(title.split(":")[0])}</a>' for name, title, _ in shown)
    body = "\n".join(
        f'<section id="{name}"><h2>{text(title)}</h2>{content}</section>' for name, title, content in shown
    )
    head = [_headline(run), _warnings(run), _missing(run, faults), f"<nav>{links}</nav>"]
    return page(f"{run.folder.resolve().name}: mmpo report", "\n".join([*head, body]))


def _headline(run: RunFiles) -> str:
    kind, sentence = outcome(run)
    recipe = run.recipe
    again = f"<p>{text(_evaluated_anyway(run))}</p>" if run.stopped and main_measure(run.evaluation) else ""
    facts = [(name, value) for name, value in _facts(run) if value]
    tiles = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in facts)
    return (
        f"<h1>{text(method_title(recipe))} on {text(recipe.model.path)}</h1>"
        f'<p class="soft">{text(cell(recipe))} · {text(run.folder.resolve().name)}</p>'
        f'<p class="verdict {kind}">{text(sentence)}</p>{again}<div class="facts">{tiles}</div>'
    )


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


def _warnings(run: RunFiles) -> str:
    said = [*not_finite(run), *((run.summary or {}).get("warnings") or [])]
    if not said:
        return ""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in said[:10])
    more = f"<li>and {len(said) - 10} more, in train.json</li>" if len(said) > 10 else ""
    return f"<details open><summary>Warnings while training ({len(said)})</summary><ul>{items}{more}</ul></details>"


def _missing(run: RunFiles, faults: list[str]) -> str:
    items = [f"{text(what)}: <code>{text(command)}</code>" for what, command in missing(run)]
    items += [text(fault) for fault in faults]
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f"<details open><summary>What is not here</summary><ul>{rows}</ul></details>" if items else ""


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
    return _code(usage(run, prompt, base=None, weights=str(folder)))


def _origin(run: RunFiles) -> str:
    summary, evaluation = run.summary or {}, run.evaluation or {}
    recipe = run.recipe
    rows: list[tuple[str, object]] = [("data", data_name(recipe)), ("base", recipe.model.path)]
    rows += [(f"hash of {name}", value) for name, value in (summary.get("identity") or {}).items()]
    rows += [("hash of the trained weights", summary["weights"])] if "weights" in summary else []
    rows += [(f"hash of {name} at evaluation", value) for name, value in (evaluation.get("weights") or {}).items()]
    rows += [("weights are of step", summary["weights_step"])] if "weights_step" in summary else []
    rows += [("device", f"{summary['processes']} × {summary['device']}")] if "device" in summary else []
    rows += [(f"version of {name}", version) for name, version in (summary.get("versions") or {}).items()]
    return table([], [(name, Html(f"<code>{text(value)}</code>")) for name, value in rows])


def _citations(run: RunFiles) -> str:
    papers = papers_used([part.loss for part in run.recipe.method.parts], lora=run.recipe.model.lora is not None)
    if not papers:
        return ""
    items = "".join(
        f'<li>{text(CITATIONS[paper].byline)}<a href="https://arxiv.org/abs/{text(paper)}" '
        f'rel="noreferrer">{text(CITATIONS[paper].title)}</a>, {CITATIONS[paper].year}</li>'
        for paper in papers
    )
    return f"<ul>{items}</ul><details><summary>BibTeX</summary>{_code(bibtex(papers))}</details>"


def _code(source: str) -> str:
    return f"<pre><code>{text(source)}</code></pre>"
