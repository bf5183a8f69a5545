"""A judge on this machine: a transformers vision-language model, answering greedily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.judge_backend import Keep, Reply, hashed
from rewards.question import Question


class LocalBackend:
    """Asks a model of this process, a batch at a time.

    Args:
        weights: hub name or folder of a transformers vision-language model with a chat template.
        revision: on the hub.
        device, dtype: of the model.
        tokens: at most so many in an answer.
        batch_size: questions at once.
    Raises:
        ValueError: nothing to load there.
    """

    def __init__(
        self,
        weights: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "bfloat16",
        tokens: int = 1024,
        batch_size: int = 8,
    ) -> None:
        from rewards.vlm_model import load_vlm
        from rewards.weights_hash import weights_identity

        self._vlm = load_vlm(weights, revision=revision, device=device, dtype=dtype)
        self._name = {"weights": weights_identity(weights, revision), "dtype": dtype, "tokens": str(tokens)}
        self._tokens, self._batch_size = tokens, batch_size

    @property
    def identity(self) -> Mapping[str, str]:
        """Weights, dtype and length."""
        return self._name

    def key(self, question: Question) -> str:
        """A hash of weights, length, texts and pixels."""
        return hashed([self._name, *(_part(part) for part in question.parts)])

    def ask(self, questions: Sequence[Question], keep: Keep) -> list[Reply]:
        """See `rewards.judge_backend.Backend.ask`."""
        replies: list[Reply] = []
        for start in range(0, len(questions), self._batch_size):
            for reply in self._batch(questions[start : start + self._batch_size]):
                if reply.text is not None:
                    keep(len(replies), reply.text)
                replies.append(reply)
        return replies

    def _batch(self, questions: Sequence[Question]) -> list[Reply]:
        faults = [self._fault(question) for question in questions]
        fine = [row for row, fault in enumerate(faults) if fault is None]
        texts, refused = self._vlm.answers([questions[row] for row in fine], tokens=self._tokens)
        said: dict[int, str | None] = dict(zip(fine, texts, strict=True))
        faults = [fault or (refused[fine.index(row)] if row in said else None) for row, fault in enumerate(faults)]
        return [
            Reply(said.get(row), fault) if fault or said[row] else Reply(None, "the judge's reply is empty")
            for row, fault in enumerate(faults)
        ]

    def _fault(self, question: Question) -> str | None:
        texts = [part for part in question.parts if isinstance(part, str)]
        return next((fault for text in texts if (fault := self._vlm.inputs.fault(text)) is not None), None)


def _part(part: Any) -> Any:
    from mmpo.records import bytes_hash

    return part if isinstance(part, str) else [part.mode, *part.size, bytes_hash(part.tobytes())]
