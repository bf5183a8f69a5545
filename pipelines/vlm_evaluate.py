"""`mmpo eval --benchmark NAME --questions FILE --answers FILE`: a benchmark's figures from files on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpo.files import write_bytes, write_json
from pipelines.vlm_answers import Matched, match, read_given
from pipelines.vlm_benchmarks import Tools, VlmBenchmark
from pipelines.vlm_chair import drawn
from pipelines.vlm_intervals import differences, figures
from pipelines.vlm_items import Item

WIDTH = 30


def evaluate_answers(
    benchmark: VlmBenchmark,
    answers: Path,
    tools: Tools,
    *,
    against: Path | None = None,
    partial: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """A benchmark's measures with 95 % intervals, clustered by image.

    Args:
        answers: a file of rows, or a folder that `mmpo respond` wrote.
        against: other answers to the same questions; then each measure is base (these), tuned, and their difference.
        partial: questions may be unanswered; the figures are of the others.
        seed: of the resampling.
    Returns:
        {benchmark, parts: {part: {measure: {value, low, high, ...}}}, questions, answered, notes, ...}.
    Raises:
        ValueError: files that are not as expected, or questions without an answer.
    """
    items = benchmark.read(tools.questions)
    tuned = _matched(benchmark, items, answers, partial)
    notes = [*tuned.notes, *(f"left out, not answered: {group}" for group in tuned.left_out if group)]
    texts: Mapping[str, str] = tuned.texts
    parts: dict[str, dict[str, Any]]
    if against is None:
        tallies = benchmark.score(items, texts, tools)
        parts = {name: figures(tally, seed=seed) for name, tally in tallies.items() if tally.units}
    else:
        base = _matched(benchmark, items, against, partial)
        shared = [item for item in items if item.id in base.texts and item.id in texts]
        apart = len(base.texts) + len(texts) - 2 * len(shared)
        notes += [f"left out, answered on one side alone: {apart:,}"] if apart else []
        texts = {item.id: texts[item.id] for item in shared}
        before, after = (benchmark.score(shared, side, tools) for side in (base.texts, texts))
        parts = {name: differences(before[name], after[name], seed=seed) for name in after if after[name].units}
    if tuned.missing and not benchmark.some:
        notes.append(f"without an answer: {len(tuned.missing):,}")
    return {
        "benchmark": benchmark.title,
        "questions": [str(path) for path in tools.questions],
        "answers": str(answers),
        **({"against": str(against)} if against is not None else {}),
        "answered": len(texts),
        "of": len(items),
        "seed": seed,
        "parts": parts,
        "notes": [*notes, *([benchmark.note] if benchmark.note else [])],
    }


def write_questions(items: Sequence[Item], output: Path, *, limit: int | None = None, seed: int = 0) -> dict[str, int]:
    """Rows of an image and a question, as `mmpo respond` reads them: a JSON object a line.

    A question that stands twice is asked once; its answer counts for both. Questions without an image are left out.

    Args:
        limit: so many at random.
        seed: of that choice.
    Returns:
        {written, repeated, without an image}.
    Raises:
        ValueError: no question with an image, or a file that is there.
    """
    if output.exists():
        raise ValueError(f"--write-questions {output}: is there already; nothing is overwritten")
    chosen = list(items) if limit is None else drawn(items, limit, seed)
    shown = [item for item in chosen if item.image]
    rows: dict[str, dict[str, str]] = {}
    for item in shown:
        rows.setdefault(item.pair, {"id": item.id, "key": item.id, "image": item.image, "prompt": item.question})
    if not rows:
        raise ValueError("no question of this benchmark has an image")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    write_bytes(output, text.encode())
    return {"written": len(rows), "repeated": len(shown) - len(rows), "without an image": len(chosen) - len(shown)}


def result_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The figures for a terminal."""
    yield f"{result['benchmark']}: {result['answered']:,} of {result['of']:,} questions answered ({result['answers']})"
    for part, measures in result["parts"].items():
        yield ""
        clusters = next(iter(measures.values()))["clusters"]
        title = f"{part} ({clusters:,} clusters)"
        if "against" in result:
            yield f"{title:<{WIDTH}} {'base':>8} {'tuned':>8} {'difference':>11}  95 % interval"
        else:
            yield f"{title:<{WIDTH}} {'value':>8}  95 % interval"
        for name, row in measures.items():
            label = _label(name, row["unit"])
            values = ("base", "tuned") if "against" in result else ("value",)
            shown = " ".join(f"{_figure(row[value], row['unit']):>8}" for value in values)
            gap = f" {_figure(row['difference'], row['unit'], '+'):>11}" if "against" in result else ""
            yield f"{label:<{WIDTH}} {shown}{gap}  {_interval(row, '+' if gap else '')}"
    yield from (f"note: {note}" for note in result["notes"])


def save(result: Mapping[str, Any], output: Path) -> None:
    """The result as JSON."""
    write_json(output, dict(result))


def _matched(benchmark: VlmBenchmark, items: Sequence[Item], answers: Path, partial: bool) -> Matched:
    if not answers.exists():
        raise ValueError(f"--answers {answers}: no such file or folder")
    try:
        return match(items, read_given(answers), partial=partial or benchmark.some)
    except ValueError as error:
        raise ValueError(f"--answers {answers}: {error}") from None


def _label(name: str, unit: str) -> str:
    return name if unit == name else f"{name} %" if unit == "%" else f"{name}, {unit}"


def _figure(value: float | None, unit: str, sign: str = "") -> str:
    digits = 1 if unit in ("words", "points") else 2
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _interval(row: Mapping[str, Any], sign: str) -> str:
    if row["low"] is None:
        return "–"
    return f"[{_figure(row['low'], row['unit'], sign)}, {_figure(row['high'], row['unit'], sign)}]"
