"""`mmpo eval RUN` of a vision-language model: base against tuned, on the built-in world's test of hallucination and on
held-out rows of the run's data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpo.answer_pairs import AnswerPair
from mmpo.files import write_bytes
from mmpo.models.vlm import Vlm
from mmpo.shapes.asked import Asked, exam
from mmpo.training.metrics import Console
from mmpo.vlm_recipe import VlmEvaluation, VlmRecipe
from pipelines.build_vlm import encoder_of
from pipelines.report_run import RESULT, VlmRun
from pipelines.vlm_card import write_vlm_card
from pipelines.vlm_feed import SHAPES, VlmFeed, vlm_feed
from pipelines.vlm_hallucination import ask, compare
from pipelines.vlm_intervals import Tally, differences
from pipelines.vlm_preferences import RowLogps, preference_tally, row_logps
from pipelines.vlm_row_answers import answer_rows, answer_tally, keep
from pipelines.vlm_sides import BASE, TUNED, Side, finished_vlm, sides
from rewards.vlm_model import VlmModel
from rewards.vlm_sampling import Answer

HELD_OUT, ANSWERS = "held-out", "answers"


@dataclass
class _Said:
    """What one side said and how likely it finds the held-out rows."""

    exam: list[str]
    logps: list[RowLogps]
    answers: list[Answer]


@dataclass
class _Work:
    """What both sides are asked.

    Args:
        exam: questions of the built-in world.
        feed: the run's data, with the rows that were held out; None where none is.
        asked: positions of held-out rows that are answered.
    """

    exam: list[Asked]
    feed: VlmFeed | None
    asked: list[int] = field(default_factory=list)

    @property
    def pairs(self) -> list[AnswerPair]:
        """The rows that are answered."""
        assert self.feed is not None or not self.asked
        return [self.feed.held_out.pair(index) for index in self.asked] if self.feed is not None else []


def evaluate_vlm(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Asks base and tuned the same questions, and writes evaluation.json and answers/.

    Args:
        folder: of a finished run.
        overrides: changes to the recipe's evaluation section, such as `evaluation.questions=shapes/test`.
    Returns:
        What evaluation.json holds: measures by name {base, tuned, difference, low, high, prompts, samples,
        higher_is_better}: first those of the test of hallucination, over scenes; then `held-out/...` and
        `answers/...`, over questions.
    Raises:
        ValueError: no finished run, nothing to ask, or data that is not what was trained on.
    """
    run, recipe = finished_vlm(folder, overrides)
    _check_held_out(run.recipe, recipe)
    name = exam_of(recipe)
    if name is None and not recipe.evaluation.held_out_pairs:
        raise ValueError(
            "evaluation: nothing to ask: no rows were held out (evaluation.held_out_pairs of a run), and "
            "evaluation.questions names no test; give --benchmark NAME with its files"
        )
    said: dict[str, _Said] = {}
    weights: dict[str, str] = {}
    work: _Work | None = None
    with Console(None, start=0, enabled=True, title="evaluate") as console:
        for side in sides(recipe, folder):
            if work is None:
                work = _work(run, recipe, side.vlm, name)
            weights[side.name] = side.weights
            said[side.name] = _asked(side, work, recipe.evaluation, console.say)
    assert work is not None
    result: dict[str, Any] = {
        "measures": dict(_measures(work, said[BASE], said[TUNED], recipe.evaluation.seed)),
        "questions": name,
        "held_out": None if work.feed is None else {"pairs": len(work.feed.held_out), "data": recipe.data.path},
        "answers": {"rows": len(work.asked), "decoding": "greedy", "max_new_tokens": recipe.evaluation.max_new_tokens},
        "seed": recipe.evaluation.seed,
        "settings_tried": recipe.evaluation.settings_tried,
        "weights": {
            "base": weights[BASE],
            "base in training": ((run.summary or {}).get("identity") or {}).get("base weights"),
            "tuned": weights[TUNED],
        },
    }
    keep(folder, work.pairs, {BASE: said[BASE].answers, TUNED: said[TUNED].answers})
    text = json.dumps(result, indent=2, ensure_ascii=False)  # in order: the first measure is the main one
    write_bytes(folder / RESULT, f"{text}\n".encode())
    write_vlm_card(folder)
    return result


def exam_of(recipe: VlmRecipe) -> str | None:
    """The built-in world's test that a run is asked: the recipe's, or the tune one where its data is of that world."""
    own = recipe.data.path.startswith(SHAPES)
    return recipe.evaluation.questions or (f"{SHAPES}tune" if own else None)


def _check_held_out(trained: VlmRecipe, asked: VlmRecipe) -> None:
    """Another number would hold out other rows, some of which were trained on."""
    before, now = trained.evaluation.held_out_pairs, asked.evaluation.held_out_pairs
    if now not in (0, before):
        raise ValueError(
            f"evaluation.held_out_pairs: {now}, and the run held {before} out; the others were trained on: leave it, "
            "or set it to 0 to leave them out here"
        )


def _work(run: VlmRun, recipe: VlmRecipe, vlm: Vlm, name: str | None) -> _Work:
    limit = recipe.evaluation.limit
    questions = exam(name.removeprefix(SHAPES), limit=limit) if name is not None else []
    if not recipe.evaluation.held_out_pairs:
        return _Work(questions, None)
    feed = vlm_feed(recipe, encoder_of(recipe, vlm), lambda text: None)
    before = ((run.summary or {}).get("identity") or {}).get("held-out rows")
    if before is not None and feed.identity["held-out rows"] != before:
        raise ValueError(
            f"data.path {recipe.data.path}: its held-out rows are not those of the training any more, so some may have "
            "been trained on; bring the data back, or set evaluation.held_out_pairs=0"
        )
    if not len(feed.held_out):
        return _Work(questions, None)
    single = [at for at in range(len(feed.held_out)) if len(feed.held_out.pair(at).turns) == 1]
    return _Work(questions, feed, single[: recipe.evaluation.answers])


def _asked(side: Side, work: _Work, section: VlmEvaluation, say: Callable[[str], None]) -> _Said:
    model = side.vlm.model
    speaker = VlmModel(model, side.vlm.processor, device=str(model.device))
    held_out = 0 if work.feed is None else len(work.feed.held_out)
    say(f"{side.name}: {len(work.exam):,} questions, {len(work.asked):,} of {held_out:,} held-out rows to answer")
    answers = ask(speaker, work.exam, batch_size=max(section.batch_size, 32)) if work.exam else []
    kept = answer_rows(speaker, work.pairs, tokens=section.max_new_tokens, size=section.batch_size)
    logps = [] if work.feed is None else row_logps(model, work.feed.held_out, size=section.batch_size)
    return _Said(answers, logps, kept)


def _measures(work: _Work, base: _Said, tuned: _Said, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if work.exam:
        yield from compare(base.exam, tuned.exam, work.exam, seed=seed).items()
    if work.feed is None:
        return
    clusters = work.feed.clusters
    yield from _rows(HELD_OUT, [preference_tally(side.logps, clusters) for side in (base, tuned)], seed)
    if work.asked:
        own = [clusters[at] for at in work.asked]
        yield from _rows(ANSWERS, [answer_tally(side.answers, own) for side in (base, tuned)], seed)


def _rows(group: str, tallies: Sequence[Tally], seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A group of measures as evaluations are stored: prompts are questions, samples rows."""
    base, tuned = tallies
    if not base.units:
        return
    for name, row in differences(base, tuned, seed=seed).items():
        keys = ("base", "tuned", "difference", "low", "high", "higher_is_better")
        kept: Mapping[str, Any] = {key: row[key] for key in keys}
        yield f"{group}/{name}", {**kept, "prompts": row["clusters"], "samples": len(base.units)}
