"""The model card of a vision-language model's run, and its upload to the hub: weights, card, recipe and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmpo.citations import bibtex
from mmpo.files import write_bytes
from pipelines.model_card import CARD, MARK, escape, fenced, own_card, shown_base, table
from pipelines.report_places import BUILT_IN, base_is_local, known_paths, public_recipe
from pipelines.report_private import last_part, public_text
from pipelines.report_push import check_name, commit, finished_weights, folder_files, public_json
from pipelines.report_run import RECIPE, RESULT, SUMMARY, VlmRun, read_vlm_run
from pipelines.report_usage import hub_name
from pipelines.report_vlm import about_scores, benchmarks, unit_name
from pipelines.report_words import interval, number, signed
from pipelines.vlm_usage import vlm_usage
from pipelines.vlm_words import direction, vlm_cell, vlm_outcome, vlm_papers, vlm_title


def write_vlm_card(folder: Path) -> Path:
    """Writes README.md into a run's folder and returns it; a README.md that is somebody's own is left alone.

    Raises:
        ValueError: it is no run of a vision-language model.
    """
    run = read_vlm_run(folder)
    if run is None:
        raise ValueError(f"{folder}: is a run of an image model")
    if own_card(run) is None:
        write_bytes(folder / CARD, vlm_card(run).encode())
    return folder / CARD


def push_vlm(run: VlmRun, name: str, *, private: bool, api: Any = None) -> str:
    """Uploads a run's weights, card, recipe and figures, and returns the address of its page.

    Rows of the data, their pictures and the answers to them stay here.

    Args:
        run: finished.
        name: USER/NAME on the hub.
        private: whether a new repository is private.
        api: in place of `huggingface_hub.HfApi()`.
    Raises:
        ValueError: no such name, no weights yet, not logged in, offline.
    """
    check_name(name)
    files = vlm_public_files(run, own_card(run) or vlm_card(run, name))
    return commit(files, name, private=private, api=api, message="Weights, card and figures by mmpo")


def vlm_public_files(run: VlmRun, card: str) -> list[tuple[str, bytes | Path]]:
    """(place in the repository, content) of what is uploaded; the weights go to the top, as `from_pretrained` wants.

    Raises:
        ValueError: the run has no weights yet.
    """
    weights = finished_weights(run)
    known = known_paths(run)
    files: list[tuple[str, bytes | Path]] = [("README.md", card.encode())]
    files += [(place, content) for place, content in folder_files(weights, known) if place != "README.md"]
    files += [(RECIPE, public_recipe(run).encode()), (SUMMARY, public_json(run.summary, known))]
    if run.evaluation is not None:
        files.append((RESULT, public_json(run.evaluation, known)))
    files += [(name, public_json(found, known)) for name, found in benchmarks(run, [])]
    return files


def vlm_card(run: VlmRun, name: str | None = None) -> str:
    """The card as Markdown with YAML front matter; no path of this machine is in it, and no row of the data.

    Args:
        run: in any state.
        name: USER/NAME on the hub, or None where it has none.
    """
    known, recipe = known_paths(run), run.recipe
    kind = "LoRA for" if recipe.model.lora is not None else "Fine-tune of"
    told = public_text(vlm_outcome(run)[1], known)
    papers = vlm_papers(recipe)
    parts = [
        front_matter(run),
        f"# {escape(name or run.folder.resolve().name)}",
        f"{kind} {escape(shown_base(run))}, trained on preferences between answers about images with mmpo: "
        f"{escape(vlm_title(recipe))}. {escape(told)}",
        "## Use",
        fenced(_usage(run, name), "python"),
        *_scores(run),
        "## Training",
        table(["", ""], _training(run)),
        "This card names no licence: those of the base model and of the training data apply, and whoever publishes "
        "these weights knows them.",
        f"<details><summary>The recipe</summary>\n\n{fenced(public_recipe(run), 'yaml')}\n\n</details>",
        *(["## Citations", fenced(bibtex(papers), "bibtex")] if papers else []),
        MARK,
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(run: VlmRun) -> str:
    """The YAML block that the hub reads: base, library, task, tags; it claims no licence."""
    recipe, lora, base = run.recipe, run.recipe.model.lora is not None, hub_name(run)
    head: dict[str, Any] = {}
    if base is not None:
        head |= {"base_model": base, "base_model_relation": "adapter" if lora else "finetune"}
    head |= {"library_name": "peft" if lora else "transformers", "pipeline_tag": "image-text-to-text"}
    losses = dict.fromkeys(
        [*([recipe.method.loss] if recipe.method.loss else []), *(p.loss for p in recipe.method.parts)]
    )
    head["tags"] = ["mmpo", "preference-alignment", *losses, *(["lora"] if lora else [])]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)}---"


def _usage(run: VlmRun, name: str | None) -> str:
    model = run.recipe.model
    local = base_is_local(run) or (hub_name(run) is None and not model.path.startswith(BUILT_IN))
    weights = name or (run.weights.name if run.weights is not None else ".")
    code = vlm_usage(run, weights=weights, base=f"path/to/{last_part(model.path)}" if local else None)
    where = "" if name else "# run in the folder of this file\n"
    return (
        where
        + ("# the base is a local folder; set its path below\n" if local and model.lora is not None else "")
        + code
    )


def _scores(run: VlmRun) -> Iterator[str]:
    measures = (run.evaluation or {}).get("measures") or {}
    head = ["measure", "base", "tuned", "difference", "95 % interval"]
    if measures:
        yield "## Figures"
        yield table(
            [*head, "over", "answers"], [[*_row(n, row), row["prompts"], row["samples"]] for n, row in measures.items()]
        )
        yield escape(about_scores(run.evaluation or {}))
    for name, found in benchmarks(run, []):
        yield f"### {escape(found.get('benchmark', name))}"
        for part, rows in found["parts"].items():
            yield table(
                [escape(part), *head[1:], "clusters"],
                [[*_row(unit_name(n, r), r), r["clusters"]] for n, r in rows.items()],
            )


def _row(name: str, row: Mapping[str, Any]) -> list[object]:
    values = [number(row[key]) if row[key] is not None else "–" for key in ("base", "tuned")]
    gap = signed(row["difference"]) if row["difference"] is not None else "–"
    return [f"{name}{direction(row)}", *values, gap, interval(row) if row["low"] is not None else "–"]


def _training(run: VlmRun) -> list[tuple[str, object]]:
    summary = run.summary or {}
    return [
        ("method", vlm_cell(run.recipe)),
        ("base", shown_base(run)),
        ("steps", f"{run.steps} of {run.recipe.train.steps}"),
        ("weights of step", summary.get("weights_step", "–")),
        ("pairs per step", run.recipe.train.batch_size),
        *((f"hash of {name}", value) for name, value in (summary.get("identity") or {}).items()),
        ("hash of the trained weights", summary.get("weights", "–")),
        *((name, version) for name, version in (summary.get("versions") or {}).items()),
        ("device", f"{summary.get('processes', '–')} × {summary.get('device', '–')}"),
    ]
