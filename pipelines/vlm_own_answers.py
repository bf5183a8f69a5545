"""A vision-language model's own answers about the built-in world's pictures, and the preferences among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmpo.answer_pairs import AnswerPair
from mmpo.records import content_id
from mmpo.shapes.answer_pairs import KINDS, own_answer_pairs
from mmpo.shapes.asked import Asked, drawn

if TYPE_CHECKING:
    from rewards.vlm_model import VlmModel

TOKENS = 40


def own_answers(
    vlm: VlmModel,
    questions: Sequence[Asked],
    samples: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
) -> list[list[str]]:
    """Several sampled answers to each question, "" where one cannot be asked.

    Args:
        vlm: the model.
        questions: N questions.
        samples: answers to each.
        temperature: the logits are divided by it.
        seed: an answer is drawn by this, its question, its picture and its number alone, so batches do not matter.
        batch_size: questions of one `generate`.
    """
    from rewards.question import Question
    from rewards.vlm_sampling import Draws, sampled_answers

    draws, found = Draws(temperature, 1.0, TOKENS), list[list[str]]()
    for start in range(0, len(questions), batch_size):
        part = questions[start : start + batch_size]
        seeds = [_seed(asked, number, seed) for asked in part for number in range(samples)]
        asked_of = [Question((asked.image, asked.question.text)) for asked in part]
        said = sampled_answers(vlm, asked_of, seeds, draws, count=samples)
        found += [[answer.text or "" for answer in answers] for answers in said]
    return found


def _seed(asked: Asked, number: int, seed: int) -> int:
    made = content_id("own answer", asked.scene.key, asked.seed, asked.defect, asked.question.text, number, seed)
    return int(made[:15], 16)


def own_pairs(
    vlm: VlmModel,
    split: str,
    count: int,
    *,
    samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    images: bool = True,
    batch_size: int = 32,
) -> Iterator[AnswerPair]:
    """Pairs of a model's own answers to `count` drawn questions, chosen by the verifier; see `own_answer_pairs`.

    Fewer than `count`: a question whose answers are all right, or all wrong, gives none.
    """

    def answers(questions: Sequence[Asked], number: int) -> list[list[str]]:
        return own_answers(vlm, questions, number, temperature=temperature, seed=seed, batch_size=batch_size)

    questions = list(drawn(split, count, seed, kinds))
    return own_answer_pairs(questions, answers, samples=samples, seed=seed, images=images)
