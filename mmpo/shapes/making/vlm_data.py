"""What the tiny VLM is taught: questions about a picture, packed into one row, each seeing the picture alone."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from mmpo.shapes.asked import HOW_MANY, OBJECTS, probes_by_closeness
from mmpo.shapes.canvas import SIZE
from mmpo.shapes.grammar import Scene
from mmpo.shapes.making import habits
from mmpo.shapes.making.vlm_tokenizer import END, IMAGE, START
from mmpo.shapes.prompts import scenes
from mmpo.shapes.questions import GENERAL, Question, askable, right_answers
from mmpo.shapes.render import render

IMAGE_TOKENS = 16
SPOILT = 0.12  # share of pictures of which only the number is asked
ROUND = ("describe", "describe", "exists", "exists", "related", "where", "relative", "count", "any")


class Pictures(NamedTuple):
    """`images` [N, 32, 32, 3] uint8, the `scene` [N] of each as a row of `scenes("train")`, `objects` [N] in it."""

    images: torch.Tensor
    scene: np.ndarray
    objects: np.ndarray


def pictures(variants: int, seed: int) -> Pictures:
    """Renders every train scene `variants` times."""
    train, rng = scenes("train"), random.Random(f"vlm pictures/{seed}")
    count = len(train) * variants
    images, objects = np.empty((count, SIZE, SIZE, 3), np.uint8), np.full(count, 2)
    for row in range(count):
        defect = rng.choice(tuple(OBJECTS)) if rng.random() < SPOILT else None
        objects[row] = OBJECTS.get(defect or "", 2)
        images[row] = np.asarray(render(train[row % len(train)], seed * 10_000_000 + row, defect=defect))
    return Pictures(torch.from_numpy(images), np.arange(count) % len(train), objects)


def questions_for(scene: Scene, objects: int, rng: random.Random) -> list[Question]:
    """Nine of a picture: two descriptions, two of presence, a relation, two of places, a number, one other."""
    if objects != 2:
        return [HOW_MANY]
    known = askable(scene)
    return [_drawn(rng.choice(GENERAL) if kind == "any" else kind, known, scene, rng) for kind in ROUND]


def _drawn(kind: str, known: dict[str, tuple[Question, ...]], scene: Scene, rng: random.Random) -> Question:
    """A question of a kind; half of the objects asked for are there, the others near it or far."""
    if kind != "exists":
        return rng.choice(known[kind])
    near = rng.choice(("present", "present", "present", "colour", "shape", "other"))
    fitting = probes_by_closeness(scene)[near]
    return rng.choice(fitting)


class Batch(NamedTuple):
    """Packed rows.

    Args:
        ids: [B, L].
        labels: [B, L], the next token where it is an answer's, else -100.
        positions: [B, L]; each question goes on from the picture.
        allowed: [B, 1, L, L] bool, what each token sees.
        rows: [B] pictures.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    rows: torch.Tensor


class Packer:
    """Makes batches; keeps the tokens of texts.

    Args:
        tokenizer: of the checkpoint.
        data: the pictures.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, data: Pictures) -> None:
        self._data, self._train = data, scenes("train")
        self._pad = tokenizer.pad_token_id
        self._prefix = tokenizer(f"{START}USER: {IMAGE * IMAGE_TOKENS}\n", add_special_tokens=False).input_ids

        @cache
        def tokens(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False).input_ids)

        self._tokens = tokens

    def batch(self, size: int, generator: torch.Generator, *, habits: bool) -> Batch:
        """`size` pictures with their questions and drawn answers: right ones, or with `habits` also wrong ones."""
        rows = torch.randint(len(self._data.scene), (size,), generator=generator)
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        return self.pack([self._turns(row, rng, habits) for row in rows.tolist()], rows)

    def _turns(self, row: int, rng: random.Random, wrong: bool) -> list[tuple[str, str]]:
        scene, objects = self._train[self._data.scene[row]], int(self._data.objects[row])
        asked = questions_for(scene, objects, rng)
        if wrong:
            return [(question.text, habits.answer(question, scene, rng, objects)) for question in asked]
        return [(question.text, rng.choice(right_answers(question, scene, objects))) for question in asked]

    def pack(self, turns: list[list[tuple[str, str]]], rows: torch.Tensor) -> Batch:
        """Rows of questions and answers, each behind its picture."""
        start = len(self._prefix)
        blocks = [
            [(self._tokens(f"{question} ASSISTANT:"), self._tokens(f" {answer}{END}")) for question, answer in row]
            for row in turns
        ]
        length = start + max(sum(len(q) + len(a) for q, a in row) for row in blocks)
        ids = np.full((len(turns), length), self._pad)
        labels, positions = np.full((len(turns), length), -100), np.zeros((len(turns), length), np.int64)
        block_of = np.full((len(turns), length), -1)
        ids[:, :start], positions[:, :start], block_of[:, :start] = self._prefix, np.arange(start), 0
        for row, parts in enumerate(blocks):
            at = start
            for number, (question, answer) in enumerate(parts, 1):
                middle, end = at + len(question), at + len(question) + len(answer)
                ids[row, at:middle], ids[row, middle:end] = question, answer
                labels[row, middle - 1 : end - 1] = answer
                positions[row, at:end] = start + np.arange(end - at)
                block_of[row, at:end] = number
                at = end
        mine, theirs = block_of[:, :, None], block_of[:, None, :]
        allowed = ((mine == theirs) | (theirs == 0)) & np.tri(length, dtype=bool)
        arrays = [torch.from_numpy(array) for array in (ids, labels, positions, allowed[:, None])]
        return Batch(arrays[0], arrays[1], arrays[2], arrays[3], rows)
