"""What base and tuned answer to held-out rows of a run's data, to be read beside the chosen and the rejected answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmpo.answer_pairs import AnswerPair
from mmpo.data.images import decode, encode
from mmpo.files import replace_folder
from pipelines.vlm_intervals import Measure, Tally, Unit, mean
from rewards.question import Question
from rewards.vlm_model import VlmModel
from rewards.vlm_sampling import Answer, Draws, sampled_answers

FOLDER, FILE = "answers", "answers.json"
SIDE = 256
"""Pixels of a kept picture's longer side."""


def question_of(pair: AnswerPair) -> Question | None:
    """A row's question with its pictures, or None where it has earlier turns, which are not asked again here."""
    if len(pair.turns) != 1:
        return None
    left = iter(pair.images)
    return Question(tuple(decode(next(left)) if part is None else part for part in pair.turns[0].parts))


def answer_rows(vlm: VlmModel, pairs: Sequence[AnswerPair], *, tokens: int, size: int) -> list[Answer]:
    """The greedy answer to each row's question.

    Args:
        pairs: with one turn each.
        tokens: of an answer at most.
        size: questions of a forward.
    """
    found: list[Answer] = []
    for start in range(0, len(pairs), size):
        asked = [question_of(pair) for pair in pairs[start : start + size]]
        questions = [question for question in asked if question is not None]
        assert len(questions) == len(asked)
        greedy = sampled_answers(vlm, questions, [0] * len(questions), Draws(temperature=0, tokens=tokens))
        found += [answers[0] for answers in greedy]
    return found


def answer_tally(answers: Sequence[Answer], clusters: Sequence[str]) -> Tally:
    """`words`: mean length of an answer, which preference training changes; `cut`: share that had not ended."""
    units = [
        Unit(cluster, {"rows": 1, "words": len((answer.text or "").split()), "cut": answer.cut})
        for answer, cluster in zip(answers, clusters, strict=True)
    ]
    return Tally(
        units, {"words": Measure(mean("words", "rows"), "", None), "cut": Measure(mean("cut", "rows"), "", False)}
    )


def keep(folder: Path, pairs: Sequence[AnswerPair], said: Mapping[str, Sequence[Answer]]) -> None:
    """Writes answers/ in a run's folder: answers.json and the rows' pictures, small. It is never uploaded.

    Args:
        folder: of the run.
        said: per side an answer a row.
    """
    rows: list[dict[str, Any]] = []
    with replace_folder(folder / FOLDER) as partial:
        for number, pair in enumerate(pairs):
            names = []
            for place, data in enumerate(pair.images):
                image = decode(data)
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                names.append(f"{number:04d}-{place}.png")
                (partial / names[-1]).write_bytes(encode(image))
            row: dict[str, Any] = {"id": pair.id, "question": asked_text(pair), "images": names}
            row |= {"chosen": pair.chosen, "rejected": pair.rejected}
            row |= {side: answers[number].text for side, answers in said.items()}
            rows.append(row)
        text = json.dumps({"rows": rows}, indent=2, ensure_ascii=False)
        (partial / FILE).write_text(text + "\n", encoding="utf-8")


def asked_text(pair: AnswerPair) -> str:
    """The texts of a row's question."""
    return " ".join(part.strip() for part in pair.turns[-1].parts if part is not None and part.strip())
