"""What `mmpo data inspect` and `stats` do with pairs of answers, as lines for a terminal. Heavy imports come with the
work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.data_answers import AnswerSource
from pipelines.data_next import command
from pipelines.data_source import bad_lines, none_left


def inspect_lines(source: AnswerSource, output: Path, *, rows: int, seed: int, model: str | None) -> Iterator[str]:
    """Writes the page of random pairs.

    Args:
        model: a vision-language model's folder or hub name, whose tokens are counted.
    """
    from pipelines.data_answer_inspect import answer_summary, inspect_answers, write_answer_page
    from pipelines.data_output import check_file

    check_file(output, [source.path])
    count = None
    if model is not None:
        from pipelines.data_answer_tokens import token_counter

        count = token_counter(model)
    found = inspect_answers(source, rows=rows, seed=seed, count=count)
    write_answer_page(found, output)
    yield from answer_summary(found)
    yield from bad_lines(found.report)
    yield f"written: {output} (open it in a browser)"
    yield f"next: {command('data', 'stats', source.path, *flags_of(source))}"


def stats_lines(source: AnswerSource, json_file: Path | None, *, model: str | None) -> Iterator[str]:
    """Counts, and writes them where a file is named.

    Raises:
        ValueError: no pair can be read.
    """
    from mmpo.data.readers import ReadReport
    from mmpo.files import write_json
    from pipelines.data_answer_stats import answer_figures, answer_lines
    from pipelines.data_output import check_file

    if json_file is not None:
        check_file(json_file, [source.path])
    report = ReadReport()
    found = answer_figures(source, report)
    yield from answer_lines(found)
    if model is not None:
        yield "note: tokens are counted by mmpo data inspect --model, for the rows that it shows"
    if report.note:
        yield f"note: {report.note}"
    yield from bad_lines(report)
    if not found["pairs"]:
        raise ValueError(none_left(source.path, report))
    if json_file is not None:
        write_json(json_file, found)
        yield f"written: {json_file}"
    yield f"next: {command('data', 'inspect', source.path, *flags_of(source))}"


def flags_of(source: AnswerSource) -> list[str]:
    """How to read the data, as the data commands take it."""
    options = source.options
    flags = [
        part for name in ("format", "split", "images") if options.get(name) for part in (f"--{name}", options[name])
    ]
    flags += [part for ours, theirs in options.get("columns", {}).items() for part in ("--columns", f"{ours}={theirs}")]
    return flags
