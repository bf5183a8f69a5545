"""Two candidates before a judge in both orders: what it says of one order alone may come from the order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from rewards.judge_backend import Reply
from rewards.judge_parsing import parse_winner
from rewards.judge_prompts import answer_pair_question, image_pair_question
from rewards.question import Question
from rewards.scores import Candidate, Comparison, Response, View
from rewards.staged import image_of

Ask = Callable[[Sequence[Question]], list[Reply]]


def compared(
    ask: Ask, view: View, first: Sequence[Candidate], second: Sequence[Candidate], prompts: Sequence[str]
) -> Comparison:
    """Asks (first, second) and (second, first) of each row.

    v₁ and v₂ ∈ {1, ½, 0} say how the first fares in either order. value = v where both say the same; ½ and not
    consistent where they differ. A row with one reply that cannot be read fails.

    Args:
        ask: answers to questions.
        view: what the judge sees of an image.
        first, second, prompts: of N rows.
    """
    pairs = list(zip(first, second, prompts, strict=True))
    errors = [_fault(*pair) for pair in pairs]
    rows = [row for row, error in enumerate(errors) if error is None]
    asked = [question for row in rows for question in _both_orders(view, *pairs[row])]
    replies = ask(asked) if asked else []
    values = np.full(len(pairs), np.nan, np.float32)
    consistent = np.zeros(len(pairs), bool)
    for place, row in enumerate(rows):
        try:
            one, other = (_verdict(reply) for reply in replies[2 * place : 2 * place + 2])
        except ValueError as error:
            errors[row] = str(error)
            continue
        consistent[row] = one == 1 - other
        values[row] = one if consistent[row] else 0.5
    return Comparison(values, errors, consistent)


def _verdict(reply: Reply) -> float:
    if reply.text is None:
        raise ValueError(reply.error)
    return parse_winner(reply.text)


def _fault(first: Candidate, second: Candidate, prompt: str) -> str | None:
    if not prompt.strip():
        return "the prompt is empty; nothing to judge by"
    if isinstance(first, Response) != isinstance(second, Response):
        return "an image and a text answer cannot be compared"
    if isinstance(first, Response) and isinstance(second, Response):
        if not first.text.strip() or not second.text.strip():
            return "an answer is empty"
        if first.image is not second.image and first.image != second.image:
            return "the two answers are about different images"
    return None


def _both_orders(view: View, first: Candidate, second: Candidate, prompt: str) -> list[Question]:
    if isinstance(first, Response) and isinstance(second, Response):
        texts, image = (first.text, second.text), view(image_of(first))
        return [answer_pair_question(prompt, image, order) for order in (texts, texts[::-1])]
    images: tuple[Image.Image, Image.Image] = (view(image_of(first)), view(image_of(second)))
    return [image_pair_question(prompt, order) for order in (images, images[::-1])]
