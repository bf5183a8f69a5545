"""Answers of a vision-language model to questions about images: several each, in shards that are resumed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.candidates import DataCandidate
from mmpo.data.licences import licence_of
from mmpo.data.questions import Questions, open_questions
from mmpo.data.shards import mark_done, read_done, shard_file, write_shard
from mmpo.files import drop_partials, write_bytes
from mmpo.recipe_files import dump
from mmpo.respond_recipe import RespondRecipe
from mmpo.training.metrics import Console
from pipelines.respond_files import (
    RECIPE,
    check_folder,
    is_whole,
    read_side,
    response_row,
    response_schema,
    settings_of,
    side_file,
    write_side,
)
from rewards.question import Question
from rewards.vlm_model import VlmModel, load_vlm
from rewards.vlm_sampling import Answer, Draws, sampled_answers
from rewards.weight_places import check_place
from rewards.weights_hash import weights_identity

NAMED = 20
"""So many bad rows are named in the marker."""


def open_data(recipe: RespondRecipe) -> Questions:
    """The questions of a recipe."""
    data = recipe.data
    return open_questions(
        data.path,
        question=data.question,
        images=data.images,
        format=data.format,
        split=data.split,
        columns=data.columns,
        streaming=data.streaming,
    )


def respond(recipe: RespondRecipe) -> dict[str, Any] | None:
    """Fills the output folder; shards that are there are kept. This process does its share of them.

    Returns:
        The marker's content, on the main process; None on the others.
    Raises:
        ValueError: no questions or model there, a folder of other settings, or not one answer.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    folder, model = Path(recipe.output), recipe.model
    check_place(model.path)
    made = settings_of(recipe, weights_identity(model.path, model.revision))
    check_folder(folder, made)
    done = read_done(folder)
    if done is not None:
        return done if rank == 0 else None
    questions = open_data(recipe)
    if rank == 0:
        drop_partials(folder)
        write_bytes(folder / RECIPE, dump(recipe).encode())
    licence = model.licence or licence_of(model.path, revision=model.revision)
    worker = _Worker(recipe, {**made, **({"licence": licence} if licence else {})})
    total, shards = recipe.data.limit or questions.opened.source.total, 0
    with Console(total, start=0, enabled=rank == 0, title="respond") as console:
        asked = 0
        size = recipe.responses.questions_per_shard
        for number, chunk in enumerate(chunks(questions.read(), size, recipe.data.limit)):
            if number % world == rank and not is_whole(folder, number, chunk):
                worker.write(folder, number, chunk)
            asked, shards = asked + len(chunk), number + 1
            console.advance(asked, "questions")
    if rank:
        return None
    return _finish(folder, shards, made, licence, questions.counts["repeated"], recipe.data.path)


def chunks(rows: Iterable[DataCandidate], size: int, limit: int | None) -> Iterator[list[DataCandidate]]:
    """The rows of each shard; a shard ends after `size` that can be read, and the last after `limit`."""
    held: list[DataCandidate] = []
    good = total = 0
    for row in rows:
        held.append(row)
        good, total = good + (row.error is None), total + (row.error is None)
        if good == size or len(held) == 4 * size or total == limit:
            yield held
            held, good = [], 0
        if total == limit:
            return
    if held:
        yield held


class _Worker:
    """Answers shards; loads the model when the first is missing."""

    def __init__(self, recipe: RespondRecipe, made: dict[str, Any]) -> None:
        self._recipe, self._made = recipe, made
        self._vlm: VlmModel | None = None

    def write(self, folder: Path, number: int, chunk: Sequence[DataCandidate]) -> None:
        """The rows of one shard, and beside them what was asked and which rows are bad."""
        responses = self._recipe.responses
        rows: list[dict[str, Any]] = []
        bad: list[str] = []
        counts: Counter[str] = Counter()
        for start in range(0, len(chunk), responses.batch_size):
            for row, answers in self._answered(chunk[start : start + responses.batch_size], bad):
                found = response_row(row, answers, self._made, counts)
                if found is None:
                    bad.append(f"{row.place}: no answer of the model is a text that can be kept")
                else:
                    rows.append(found)
            if bad and self._recipe.data.on_bad_row == "error":
                raise ValueError(f"{bad[0]} (data.on_bad_row is error)")
        write_side(folder, number, chunk, bad, counts)
        write_shard(folder, number, rows, response_schema())

    def _answered(self, rows: Sequence[DataCandidate], bad: list[str]) -> Iterator[tuple[DataCandidate, list[Answer]]]:
        """Rows whose question could be asked, with their answers; the others are added to `bad`."""
        from mmpo.data.images import decode

        asked: list[tuple[DataCandidate, Question]] = []
        for row in rows:
            try:
                if row.error is not None:
                    raise ValueError(row.error)
                image = decode(row.image)
                why = self._model.inputs.fault(row.prompt)
                if why is not None:
                    raise ValueError(why)
            except ValueError as error:
                bad.append(f"{row.place}: {error}")
                continue
            asked.append((row, Question((image, row.prompt))))
        if not asked:
            return
        settings = self._recipe.responses
        draws = Draws(settings.temperature, settings.top_p, settings.max_new_tokens)
        seeds = [response_seed(row, n, settings.seed) for row, _ in asked for n in range(settings.count)]
        found = sampled_answers(self._model, [q for _, q in asked], seeds, draws, count=settings.count)
        for (row, _), answers in zip(asked, found, strict=True):
            if answers[0].error is not None:
                bad.append(f"{row.place}: {answers[0].error}")
            else:
                yield row, answers

    @property
    def _model(self) -> VlmModel:
        if self._vlm is None:
            model = self._recipe.model
            self._vlm = load_vlm(
                model.path, revision=model.revision, device=local_device(model.device), dtype=model.dtype
            )
        return self._vlm


def local_device(named: str | None) -> str | None:
    """The named device, or this process's own GPU of several."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if named is None and local is not None and torch.cuda.is_available() else named


def response_seed(row: DataCandidate, number: int, seed: int) -> int:
    """63-bit seed of an answer: of the image, the question, its number and the recipe's seed alone."""
    from mmpo.records import content_id

    return int(content_id("response", row.image_hash, row.prompt, number, seed)[:15], 16)


def _finish(
    folder: Path, shards: int, made: dict[str, Any], licence: str | None, repeated: int, path: str
) -> dict[str, Any]:
    """Waits for other processes' shards, counts what was written, and marks it."""
    for number in range(shards):
        while not shard_file(folder, number).is_file():
            time.sleep(0.2)  # where another process fails, the launcher ends this one too
    sides = [read_side(side_file(folder, number)) for number in range(shards)]
    counts: Counter[str] = Counter()
    for side in sides:
        counts.update(side["counts"])
    bad = [line for side in sides for line in side["bad"]]
    if not counts["rows"]:
        first = f"; the first: {bad[0]}" if bad else ""
        raise ValueError(f"data.path {path}: no question could be answered, of {len(bad):,} rows{first}")
    summary: dict[str, Any] = {**counts, "bad": len(bad), "repeated": repeated, "first_bad": bad[:NAMED]}
    summary |= {"shards": shards, "licence": licence, "data_licence": licence_of(path, kind="dataset")}
    mark_done(folder, made, summary)
    return {"settings": made, "summary": summary}
