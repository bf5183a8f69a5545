"""What the reports of all runs have in common: warnings, what is missing, where things came from, papers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmpo.citations import CITATIONS, bibtex
from pipelines.page import Html, page, table, text
from pipelines.report_run import RunData
from pipelines.report_words import not_finite

AnyRun = RunData[Any]


def assembled(run: AnyRun, head: Sequence[str], sections: Iterable[tuple[str, str, str]]) -> str:
    """A whole page.

    Args:
        head: HTML above the links.
        sections: (name, title, HTML); those without content are left out.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{text(title.split(":")[0])}</a>' for name, title, _ in shown)
    body = "\n".join(
        f'<section id="{name}"><h2>{text(title)}</h2>{content}</section>' for name, title, content in shown
    )
    return page(f"{run.folder.resolve().name}: mmpo report", "\n".join([*head, f"<nav>{links}</nav>", body]))


def headline(run: AnyRun, title: str, cell: str, told: tuple[str, str], facts: Iterable[tuple[str, str]]) -> str:
    """The top of a report.

    Args:
        told: (kind, sentence) of how the run ended.
        facts: (name, short value); empty ones are left out.
    """
    kind, sentence = told
    tiles = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in facts if value)
    return (
        f"<h1>{text(title)}</h1>"
        f'<p class="soft">{text(cell)} · {text(run.folder.resolve().name)}</p>'
        f'<p class="verdict {kind}">{text(sentence)}</p>'
        f'<div class="facts">{tiles}</div>'
    )


def warnings_of(run: AnyRun) -> str:
    """What was wrong while training, as HTML; "" where nothing was."""
    said = [*not_finite(run), *((run.summary or {}).get("warnings") or [])]
    if not said:
        return ""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in said[:10])
    more = f"<li>and {len(said) - 10} more, in train.json</li>" if len(said) > 10 else ""
    return f"<details open><summary>Warnings while training ({len(said)})</summary><ul>{items}{more}</ul></details>"


def absent(missing: Iterable[tuple[str, str]], faults: Iterable[str]) -> str:
    """What a whole report would show and this cannot, as HTML; "" where nothing is missing.

    Args:
        missing: (what, the command that gives it).
        faults: sentences.
    """
    items = [f"{text(what)}: <code>{text(command)}</code>" for what, command in missing]
    items += [text(fault) for fault in faults]
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f"<details open><summary>What is not here</summary><ul>{rows}</ul></details>" if items else ""


def recipe_of(run: AnyRun) -> str:
    """recipe.yaml as HTML."""
    return f"<details open><summary>recipe.yaml</summary>{code(run.recipe_text)}</details>"


def origin(run: AnyRun, data: str) -> str:
    """Data, base, hashes, device and versions, as HTML.

    Args:
        data: where the preferences came from.
    """
    summary, evaluation = run.summary or {}, run.evaluation or {}
    rows: list[tuple[str, object]] = [("data", data), ("base", run.recipe.model.path)]
    rows += [(f"hash of {name}", value) for name, value in (summary.get("identity") or {}).items()]
    rows += [("hash of the trained weights", summary["weights"])] if "weights" in summary else []
    rows += [(f"hash of {name} at evaluation", value) for name, value in (evaluation.get("weights") or {}).items()]
    rows += [("weights are of step", summary["weights_step"])] if "weights_step" in summary else []
    rows += [("device", f"{summary['processes']} × {summary['device']}")] if "device" in summary else []
    rows += [(f"version of {name}", version) for name, version in (summary.get("versions") or {}).items()]
    return table([], [(name, Html(f"<code>{text(value)}</code>")) for name, value in rows])


def citation_list(papers: Sequence[str]) -> str:
    """Papers with their BibTeX, as HTML; "" without any.

    Args:
        papers: keys of `CITATIONS`.
    """
    if not papers:
        return ""
    items = "".join(
        f'<li>{text(CITATIONS[paper].byline)}<a href="https://arxiv.org/abs/{text(paper)}" '
        f'rel="noreferrer">{text(CITATIONS[paper].title)}</a>, {CITATIONS[paper].year}</li>'
        for paper in papers
    )
    return f"<ul>{items}</ul><details><summary>BibTeX</summary>{code(bibtex(papers))}</details>"


def code(source: str) -> str:
    """A block of code as HTML."""
    return f"<pre><code>{text(source)}</code></pre>"
