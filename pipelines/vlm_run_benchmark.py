"""`mmpo eval RUN --benchmark NAME`: a run's base and tuned model answer a benchmark's questions, and are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.candidates import DataCandidate
from mmpo.data.images import decode
from mmpo.data.questions import open_questions
from mmpo.files import write_bytes
from mmpo.records import bytes_hash, content_id
from mmpo.training.metrics import Console
from mmpo.vlm_recipe import VlmEvaluation
from pipelines.vlm_benchmarks import Tools, benchmark_named
from pipelines.vlm_card import write_vlm_card
from pipelines.vlm_evaluate import evaluate_answers, save, write_questions
from pipelines.vlm_sides import BASE, TUNED, Side, finished_vlm, sides
from rewards.question import Question
from rewards.vlm_model import VlmModel
from rewards.vlm_sampling import Draws, sampled_answers

FOLDER, QUESTIONS = "benchmarks", "questions.jsonl"
KEPT = 64
"""Questions after which answers are written; a call that is killed does so many again."""


def benchmark_run(
    folder: Path,
    name: str,
    tools: Tools,
    *,
    images: Path | None = None,
    limit: int | None = None,
    partial: bool = False,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Asks both models greedily and writes evaluation-NAME.json; answers that are there are kept.

    They stay in benchmarks/ of the run's folder, so that a call that was killed goes on.

    Args:
        folder: of a finished run.
        name: of the benchmark.
        tools: its files, and what else scores it.
        images: where its images are; default: beside the questions' file.
        limit: so many of its questions at random, by `seed`.
        partial: questions may stay unanswered.
        seed: of that choice and of the intervals, which are over images.
        overrides: changes to the recipe's evaluation section.
    Returns:
        What `evaluate_answers` does, of base and tuned.
    Raises:
        ValueError: no finished run, files that are not as expected, or questions that could not be asked.
    """
    run, recipe = finished_vlm(folder, overrides)
    benchmark = benchmark_named(name)
    asked = _questions(folder, name, tools, recipe.evaluation, limit, seed)
    place = images if images is not None else _beside(tools)
    files = {side: asked.with_name(f"{side}.jsonl") for side in (BASE, TUNED)}
    for side in sides(recipe, folder):
        faults = _answer(side, asked, place, recipe.evaluation)
        if faults and not partial:
            raise ValueError(
                f"--images {place}: {len(faults)} questions could not be asked, the first: {faults[0]}; mend it, or "
                "give --partial for figures of the others"
            )
    result = evaluate_answers(
        benchmark, files[TUNED], tools, against=files[BASE], partial=partial or limit is not None, seed=seed
    )
    result |= {"max_new_tokens": recipe.evaluation.max_new_tokens, "run": (run.summary or {}).get("weights")}
    save(result, folder / f"evaluation-{name}.json")
    write_vlm_card(folder)
    return result


def _beside(tools: Tools) -> Path:
    first = tools.questions[0]
    return first if first.is_dir() else first.parent


def _questions(folder: Path, name: str, tools: Tools, section: VlmEvaluation, limit: int | None, seed: int) -> Path:
    """The file of questions, in a folder of its own for each choice of them and most tokens of an answer."""
    draft = folder / FOLDER / f".{name}.jsonl"
    draft.unlink(missing_ok=True)
    write_questions(benchmark_named(name).read(tools.questions), draft, limit=limit, seed=seed)
    data = draft.read_bytes()
    draft.unlink()
    place = folder / FOLDER / f"{name}-{content_id(bytes_hash(data), section.max_new_tokens)[:8]}" / QUESTIONS
    if not place.is_file():
        write_bytes(place, data)
    return place


def _answer(side: Side, questions: Path, images: Path, section: VlmEvaluation) -> list[str]:
    """Writes one model's answers beside the questions, and returns why some could not be asked."""
    file = questions.with_name(f"{side.name}.jsonl")
    names = {row["key"]: row["image"] for row in _rows(questions)}
    known = {row["key"]: row for row in _rows(file)} if file.is_file() else {}
    model = side.vlm.model
    speaker = VlmModel(model, side.vlm.processor, device=str(model.device))
    draws = Draws(temperature=0, tokens=section.max_new_tokens)
    faults: list[str] = []
    left = [row for row in open_questions(str(questions), images=str(images)).read() if row.cluster not in known]
    with Console(len(left), start=0, enabled=True, title=side.name) as console:
        since = 0
        for start in range(0, len(left), section.batch_size):
            chunk = left[start : start + section.batch_size]
            for row, text in _said(speaker, chunk, draws, faults):
                known[row.cluster] = {"key": row.cluster, "image": names[row.cluster], "question": row.prompt}
                known[row.cluster]["answer"] = text
            since += len(chunk)
            if since >= KEPT or start + len(chunk) == len(left):
                write_bytes(
                    file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in known.values()).encode()
                )
                since = 0
            console.advance(start + len(chunk), "questions")
    return faults


def _said(
    speaker: VlmModel, rows: Sequence[DataCandidate], draws: Draws, faults: list[str]
) -> Iterator[tuple[DataCandidate, str]]:
    """Rows with their answers, an empty one included; what cannot be asked is added to `faults`."""
    good: list[tuple[DataCandidate, Question]] = []
    for row in rows:
        try:
            if row.error is not None:
                raise ValueError(row.error)
            good.append((row, Question((decode(row.image), row.prompt))))
        except ValueError as error:
            faults.append(f"{row.place}: {error}")
    found = sampled_answers(speaker, [question for _, question in good], [0] * len(good), draws)
    for (row, _), (answer,) in zip(good, found, strict=True):
        if answer.error is not None:
            faults.append(f"{row.place}: {answer.error}")
        else:
            yield row, answer.text or ""


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
