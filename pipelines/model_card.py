"""The model card: RUN/README.md as the Hugging Face hub reads it, and the upload."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmpo.citations import bibtex, papers_used
from mmpo.files import write_bytes
from pipelines.report_places import BUILT_IN, base_is_local, known_paths, public_recipe
from pipelines.report_private import last_part, public_text
from pipelines.report_push import check_name, upload
from pipelines.report_run import GRID, RunData, RunFiles, read_run
from pipelines.report_usage import hub_name, single, usage
from pipelines.report_words import cell, interval, method_title, number, outcome, percent, signed, unit

CARD = "README.md"
MARK = (
    "<!-- mmpo writes this file anew after a training, an evaluation and a report; without this line, it does not -->"
)
PROMPT = "a red circle above a blue square"


def write_model_card(folder: Path) -> Path:
    """Writes README.md into a run's folder and returns it; a README.md that is somebody's own is left alone.

    Raises:
        ValueError: it is no run's folder.
    """
    run = read_run(folder)
    if own_card(run) is None:
        write_bytes(folder / CARD, card(run, run.recipe.push_to_hub).encode())
    return folder / CARD


def own_card(run: RunData[Any]) -> str | None:
    """The README.md of a run that somebody wrote or made their own by deleting our mark, or None."""
    file = run.folder / CARD
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else MARK
    return None if MARK in text else text


def push(folder: Path, name: str, *, private: bool, api: Any = None) -> str:
    """Uploads a run's weights, card, samples, recipe and scores, and returns the address of its page.

    The card is made for this name; a README.md that is somebody's own goes up as it is.

    Args:
        folder: of a finished run.
        name: USER/NAME on the hub.
        private: whether a new repository is private.
        api: in place of `huggingface_hub.HfApi()`.
    Raises:
        ValueError: no such name, no run or no weights there, not logged in, offline.
    """
    check_name(name)
    run = read_run(folder)
    return upload(run, own_card(run) or card(run, name), name, private=private, api=api)


def card(run: RunFiles, name: str | None = None) -> str:
    """The card as Markdown with YAML front matter; no path of this machine is in it.

    Args:
        run: in any state.
        name: USER/NAME on the hub, or None where it has none.
    """
    parts = [
        front_matter(run),
        f"# {escape(name or run.folder.resolve().name)}",
        _introduction(run),
        *_samples(run),
        "## Use",
        fenced(_usage(run, name), "python"),
        *_scores(run),
        "## Training",
        *_training(run),
        _recipe(run),
        *_citations(run),
        MARK,
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(run: RunFiles) -> str:
    """The YAML block that the hub reads: base, library, task, tags, the gallery's picture; it claims no licence."""
    recipe, lora = run.recipe, run.recipe.model.lora is not None
    base = hub_name(run)
    tags = ["text-to-image", "diffusers", "diffusers-training", "mmpo", *(part.loss for part in recipe.method.parts)]
    head: dict[str, Any] = {}
    if base is not None:
        head |= {"base_model": base, "base_model_relation": "adapter" if lora else "finetune"}
    head |= {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    head["tags"] = [*tags, *(["lora", "template:sd-lora"] if lora else [])]
    if run.grid is not None:
        prompts = ", ".join(one_line(prompt) for prompt in run.prompts()[:3]) or "samples"
        head["widget"] = [{"text": f"base above, tuned below: {prompts}", "output": {"url": GRID}}]
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{text}---"


def escape(value: object) -> str:
    """Any text as one line of Markdown in which nothing is markup, for prose and for cells of tables."""
    line = one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", line)


def one_line(value: object) -> str:
    """Runs of white space as one space."""
    return " ".join(str(value).split())


def fenced(code: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table of escaped cells."""
    lines = [head, ["---"] * len(head), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown_base(run: RunData[Any]) -> str:
    """The base as others may read it: its name on the hub, or the last part of its path."""
    path = run.recipe.model.path
    return hub_name(run) or (path if path.startswith(BUILT_IN) and not base_is_local(run) else last_part(path))


def _introduction(run: RunFiles) -> str:
    kind = "LoRA for" if run.recipe.model.lora is not None else "Fine-tune of"
    _, sentence = outcome(run)
    rollout = run.recipe.rollout
    on = "preference pairs"
    if rollout is not None:
        by = "people" if rollout.labels == "votes" else ", ".join(reward.name for reward in rollout.rewards)
        on = f"its own samples, compared by {escape(by)}," if by else "stored samples of its own"
    return (
        f"{kind} {escape(shown_base(run))}, trained on {on} with mmpo: {escape(method_title(run.recipe))}. "
        f"{escape(public_text(sentence, known_paths(run)))}"
    )


def _samples(run: RunFiles) -> list[str]:
    if run.grid is None:
        return []
    prompts = ((run.evaluation or {}).get("grid") or {}).get("prompts", [])
    names = "\n".join(f"{place}. {escape(prompt)}" for place, prompt in enumerate(prompts, 1))
    text = "Same prompt and same noise in a column: the base above, the tuned model below."
    columns = [f"Columns:\n\n{names}"] if names else []
    return ["## Samples", f"![base above, tuned below]({GRID})", text, *columns]


def _usage(run: RunFiles, name: str | None) -> str:
    prompt = next(iter(run.prompts()), PROMPT)
    model = run.recipe.model
    local = base_is_local(run) or (hub_name(run) is None and not model.path.startswith(BUILT_IN))
    weights = name or ("pipeline" if model.lora is None else ".")
    code = usage(run, prompt, base=f"path/to/{last_part(model.path)}" if local else None, weights=weights)
    where = "" if name else "# run in the folder of this file\n"
    if local and model.lora is not None:
        kind = "file" if single(model) else "folder"
        where += f"# the base is a local {kind}; set its path below\n"
    return where + code


def _scores(run: RunFiles) -> list[str]:
    measures = (run.evaluation or {}).get("measures") or {}
    if not measures:
        return []
    evaluation = run.evaluation or {}
    head = ["measure", "base", "tuned", "difference", "95 % interval", "win rate", "prompts", "samples"]
    rows = [
        (
            name,
            number(row["base"]),
            number(row["tuned"]),
            signed(row["difference"]),
            interval(row),
            percent(row.get("win_rate", float("nan"))),
            row["prompts"],
            row["samples"],
        )
        for name, row in measures.items()
    ]
    tried = evaluation.get("settings_tried")
    about = [
        f"Prompts: {escape(public_text(str(evaluation.get('prompts')), known_paths(run)))}.",
        "Base and tuned draw from the same noise; intervals are over prompts.",
        f"Settings tried before this one: {tried if tried is not None else 'not stated'}.",
    ]
    return ["## Scores", table(head, rows), " ".join(about)]


def _training(run: RunFiles) -> list[str]:
    summary = run.summary or {}
    rows: list[tuple[str, object]] = [
        ("method", cell(run.recipe)),
        ("base", shown_base(run)),
        ("steps", f"{run.steps} of {run.recipe.train.steps}"),
        ("weights of step", summary.get("weights_step", "–")),
        (f"{unit(run.recipe)} per step", run.recipe.train.batch_size),
        *((f"hash of {name}", value) for name, value in (summary.get("identity") or {}).items()),
        ("hash of the trained weights", summary.get("weights", "–")),
        *((name, version) for name, version in (summary.get("versions") or {}).items()),
        ("device", f"{summary.get('processes', '–')} × {summary.get('device', '–')}"),
    ]
    licence = (
        "This card names no licence: those of the base model and of the training data apply, and whoever publishes "
        "these weights knows them."
    )
    return [table(["", ""], rows), licence]


def _recipe(run: RunFiles) -> str:
    return f"<details><summary>The recipe</summary>\n\n{fenced(public_recipe(run), 'yaml')}\n\n</details>"


def _citations(run: RunFiles) -> list[str]:
    papers = papers_used([part.loss for part in run.recipe.method.parts], lora=run.recipe.model.lora is not None)
    return ["## Citations", fenced(bibtex(papers), "bibtex")] if papers else []
