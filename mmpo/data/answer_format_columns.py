"""Rows of a question, its images and two answers: ours, TRL's, RLAIF-V's, InternVL's MPO, mDPO's, Re-Align's; RLHF-V's;
and our ranked lists of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmpo.data.answer_images import image_values
from mmpo.data.answer_messages import answer_text
from mmpo.data.answer_records import AnswerFormat, AnswerRecord
from mmpo.data.answer_sides import IMAGES, REJECTED_IMAGES, prompt_of, rejected_images_of, sides_of
from mmpo.data.format_values import finites
from mmpo.data.rows import scores_of
from mmpo.data.source_rows import Row


def _answers(row: Row) -> AnswerRecord:
    """`prompt` (or `question`), `chosen`, `rejected`, each a text or messages, and images."""
    values = row.values
    return _record(values, "prompt" if values.get("prompt") is not None else "question")


def _implicit(row: Row) -> AnswerRecord:
    """Whole conversations as `chosen` and `rejected`, which share what was asked."""
    return _record(row.values, None)


def _record(values: Mapping[str, Any], prompt: str | None) -> AnswerRecord:
    column, images = image_values(values, IMAGES)
    rejected_column, rejected_images = rejected_images_of(values)
    sides = sides_of(values, prompt, needed=rejected_images is None)
    scores = scores_of(values.get("scores"), 2)
    own = values.get("id")
    return AnswerRecord(*sides, column, images, rejected_column, rejected_images, scores, own)


def _rlhf_v(row: Row) -> AnswerRecord:
    """`text` is a JSON object `{question, chosen, rejected}`."""
    text = row.values.get("text")
    try:
        said = json.loads(text) if isinstance(text, str | bytes) else text
    except ValueError as error:
        raise ValueError(f"column 'text' is not JSON: {error}") from None
    if not isinstance(said, Mapping) or not {"question", "chosen", "rejected"} <= set(said):
        raise ValueError("column 'text' is no JSON object with question, chosen and rejected")
    column, images = image_values(row.values, IMAGES)
    return AnswerRecord(*sides_of(said, "question"), column, images)


def _lists(row: Row) -> AnswerRecord | None:
    """The best and the worst of a ranked list of answers; None for a tie."""
    values = row.values
    answers = values.get("responses")
    if not isinstance(answers, list | tuple) or len(answers) < 2:
        raise ValueError("column 'responses' holds no list of at least two answers")
    order = finites(values, "rank", len(answers))
    best, worst = order.index(min(order)), order.index(max(order))
    if order[best] == order[worst]:
        return None
    column, images = image_values(values, IMAGES)
    texts = [answer_text(answers[k], f"responses[{k}]") for k in (best, worst)]
    scores = scores_of(values.get("scores"), len(answers))
    return AnswerRecord(
        prompt_of(values.get("prompt"), "prompt"),
        texts[0],
        texts[1],
        column,
        images,
        scores={name: [numbers[best], numbers[worst]] for name, numbers in scores.items()},
    )


def _re_align(row: Row) -> AnswerRecord:
    """Conversations on both sides, and the image that was retrieved for the chosen answer to be wrong under."""
    return replace(_record(row.values, None), own_id=None)


ANSWERS = AnswerFormat(
    "answers",
    ("prompt|question", "chosen", "rejected"),
    _answers,
    marks=("|".join((*IMAGES, *REJECTED_IMAGES, "question")),),
    optional=(*IMAGES, *REJECTED_IMAGES),
)
RE_ALIGN = AnswerFormat("re_align", ("image", "retrieved_image", "chosen", "rejected"), _re_align)
IMPLICIT = AnswerFormat("trl_implicit", ("chosen", "rejected"), _implicit, marks=("|".join(IMAGES),), optional=IMAGES)
RLHF_V = AnswerFormat("rlhf_v", ("text", "image|images"), _rlhf_v, marks=("ds_name|origin_dataset",))
ANSWER_LISTS = AnswerFormat("answer_lists", ("prompt", "responses", "rank"), _lists, optional=IMAGES)
