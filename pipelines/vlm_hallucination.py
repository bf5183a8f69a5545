"""How often a vision-language model says what is not so: the built-in world's test, from answers to measures.

Answers go in, measures with 95 % intervals come out, of one model or of two on the same questions; what is
independent is a scene, so whole scenes are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mmpo.shapes.answers import FAULTS, Judgement
from mmpo.shapes.asked import Asked
from pipelines.vlm_intervals import Measure, Tally, Unit, differences, figures, mean

if TYPE_CHECKING:
    from rewards.vlm_model import VlmModel

TOKENS = 40
"""An answer of the world has at most 20; more may be said, and is then read as it stands."""


class Share(NamedTuple):
    """What one answer adds to a measure: its value is the sum of `part` over the sum of `whole`."""

    part: float
    whole: float


def higher_is_better(measure: str) -> bool | None:
    """Whether more of a measure is better; None where it only describes."""
    if measure in ("words", "probes/yes_ratio"):
        return None
    return not measure.startswith(("hallucinated", "false_mentions", "unread"))


def shares(asked: Asked, answer: str) -> dict[str, Share]:
    """What one answer adds to each measure that it is part of.

    Measures: of descriptions `hallucinated` (anything that is not so, or no description at all), `hallucinated/FAULT`,
    `false_mentions` (of the objects named, those that are not there so; CHAIR_i, as `hallucinated` is CHAIR_s),
    `covered` (of the objects there, those named rightly), `described` (all right), `words`. Of questions of presence
    `probes` (accuracy), `probes/precision`, `recall`, `f1` with "yes" as positive, `yes_ratio`, and the accuracy
    on each of `present`, `colour`, `shape`, `other`. `relations`: accuracy on true and false relations. `general`
    and `general/KIND`: accuracy on the other questions. `unread`: answers of all kinds that could not be read; they
    count as wrong everywhere.
    """
    verdict = asked.judge(answer)
    found = {"unread": Share(not verdict.parsed, 1)}
    kind = asked.question.kind
    if kind == "describe":
        return found | _description(verdict, answer)
    if kind == "exists":
        return found | _probe(verdict, asked)
    names = ("relations",) if kind == "related" else ("general", f"general/{kind}")
    return found | {name: Share(verdict.correct, 1) for name in names}


def _description(verdict: Judgement, answer: str) -> dict[str, Share]:
    found = {"hallucinated": Share(verdict.hallucinated or not verdict.parsed, 1)}
    found |= {f"hallucinated/{fault}": Share(fault in verdict.faults, 1) for fault in FAULTS[:-1]}
    found["false_mentions"] = Share(verdict.false_mentions, verdict.mentions)
    found["covered"] = Share(verdict.covered, 2)
    found["described"] = Share(verdict.correct, 1)
    found["words"] = Share(len(answer.split()), 1)
    return found


def _probe(verdict: Judgement, asked: Asked) -> dict[str, Share]:
    there, right = asked.closeness == "present", verdict.correct
    hit, missed, false = there and right, there and not right, not there and not right
    return {
        "probes": Share(right, 1),
        "probes/precision": Share(hit, hit or false),
        "probes/recall": Share(hit, hit or missed),
        "probes/f1": Share(2 * hit, 2 * hit + missed + false),
        "probes/yes_ratio": Share(verdict.said == "yes", 1),
        f"probes/{asked.closeness}": Share(right, 1),
    }


def measure(answers: Sequence[str], exam: Sequence[Asked], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Each measure of `shares` with its interval.

    Args:
        answers: N, one a question; "" where there is none.
        exam: N questions.
        seed: of the resampling.
    Returns:
        {measure: {value, low, high, answers, scenes, higher_is_better}}; value None where nothing counts towards it
        (such as precision without a "yes"), the bounds None with fewer than two scenes too.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, units in _units(answers, exam).items():
        found = figures(_tally(name, units), seed=seed)[name]
        table[name] = {key: found[key] for key in ("value", "low", "high", "higher_is_better")}
        table[name] |= {"answers": len(units), "scenes": found["clusters"]}
    return table


def compare(
    base: Sequence[str], tuned: Sequence[str], exam: Sequence[Asked], *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Two models' answers to the same questions: each measure of both, and the difference with its interval.

    Returns:
        {measure: {base, tuned, difference, low, high, prompts, samples, higher_is_better}}, as evaluations are stored:
        prompts are scenes, samples answers. A measure that one side has no value of is left out.
    """
    table: dict[str, dict[str, Any]] = {}
    before, after = _units(base, exam), _units(tuned, exam)
    for name, units in before.items():
        found = differences(_tally(name, units), _tally(name, after[name]), seed=seed)[name]
        if found["difference"] is None:
            continue
        keys = ("base", "tuned", "difference", "low", "high", "higher_is_better")
        table[name] = {key: found[key] for key in keys} | {"prompts": found["clusters"], "samples": len(units)}
    return table


def _units(answers: Sequence[str], exam: Sequence[Asked]) -> dict[str, list[Unit]]:
    """Per measure what each answer adds to it, descriptions first, then probes, relations, general questions."""
    if len(answers) != len(exam):
        raise ValueError(f"answers: {len(answers)} for {len(exam)} questions; give one each, '' where there is none")
    if not exam:
        raise ValueError("exam: no question")
    found: dict[str, list[Unit]] = {}
    for asked, answer in zip(exam, answers, strict=True):
        for name, share in shares(asked, answer).items():
            found.setdefault(name, []).append(Unit(asked.scene.key, {"part": share.part, "whole": share.whole}))
    order = ("hallucinated", "false_mentions", "covered", "described", "words", "probes", "relations", "general")
    places = {name: place for place, name in enumerate(order)}
    return dict(sorted(found.items(), key=lambda item: places.get(item[0].partition("/")[0], len(order))))


def _tally(name: str, units: Sequence[Unit]) -> Tally:
    return Tally(units, {name: Measure(mean("part", "whole"), "", higher_is_better(name))})


def ask(vlm: VlmModel, exam: Sequence[Asked], *, batch_size: int = 128, tokens: int = TOKENS) -> list[str]:
    """Greedy answers of a model to the questions, "" where one cannot be asked.

    Args:
        batch_size: questions of one `generate`.
        tokens: at most so many in an answer.
    """
    from rewards.question import Question

    said: list[str] = []
    for start in range(0, len(exam), batch_size):
        questions = [Question((one.image, one.question.text)) for one in exam[start : start + batch_size]]
        said += [(text or "").strip() for text in vlm.answers(questions, tokens=tokens)[0]]
    return said


def table_lines(table: dict[str, dict[str, Any]]) -> list[str]:
    """`measure`'s result as a Markdown table."""
    lines = ["| measure | value [95 %] | answers | scenes |", "|---|---|---|---|"]
    for name, row in table.items():
        numbers = [row[key] for key in ("value", "low", "high")]
        value, low, high = ("–" if number is None else f"{number:.3f}" for number in numbers)
        lines.append(f"| {name} | {value} [{low}, {high}] | {row['answers']} | {row['scenes']} |")
    return lines
