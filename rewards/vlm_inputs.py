"""From questions to a vision-language model's batch: chat template, padding, and rows that cannot be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from rewards.question import Question, shortened

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Encoded:
    """A batch of the questions that can be asked.

    Args:
        batch: what the model takes, on the CPU; None where no question can be asked.
        rows: which of the questions stand in it.
        faults: per question None, or why it cannot be asked.
    """

    batch: Any
    rows: list[int]
    faults: list[str | None]


class VlmInputs:
    """A transformers processor that asks many questions at once.

    Args:
        processor: with a chat template.
        limit: tokens that the model reads; None: unknown.
        image_options: to the image processor.
    Raises:
        ValueError: no chat template.
    """

    def __init__(
        self, processor: Any, *, limit: int | None = None, image_options: Mapping[str, Any] | None = None
    ) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        if not (processor.chat_template or self.tokenizer.chat_template):
            raise ValueError("weights: the processor has no chat template; take a chat or instruct model")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._limit, self._images = limit, dict(image_options or {})
        self._marks = sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True)

    def fault(self, text: str) -> str | None:
        """None, or why a text of the data's cannot stand in a question.

        The tokenizer reads a mark such as <image> or <|im_end|> as what it stands for, so a caption that holds one
        would add an image that is not there, or end the turn.
        """
        if not text.strip():
            return "the text is empty; nothing to ask about the image"
        mark = next((mark for mark in self._marks if mark in text), None)
        return None if mark is None else f"the text holds {mark!r}, a mark of this model's own; take it out"

    def encode(self, questions: Sequence[Question], *, side: Side) -> Encoded:
        """The batch of those questions that the model can read, padded on one side."""
        faults: list[str | None] = [None] * len(questions)
        rows = list(range(len(questions)))
        batch = self._all(questions, side) if questions else None
        if batch is None:
            for row in rows:
                faults[row] = self._why(questions[row], side)
        elif self._limit is not None:
            for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
                if length > self._limit:
                    faults[row] = f"{length} tokens with the image's, the model reads {self._limit}; shorten the text"
        kept = [row for row in rows if faults[row] is None]
        if kept != rows or batch is None:
            batch = self._process([questions[row] for row in kept], side) if kept else None
        return Encoded(batch, kept, faults)

    def _all(self, questions: Sequence[Question], side: Side) -> Any:
        try:
            return self._process(questions, side)
        except ValueError:
            return None

    def _why(self, question: Question, side: Side) -> str | None:
        try:
            self._process([question], side)
        except ValueError as error:
            return f"the model's processor refuses it: {shortened(str(error))}"
        return None

    def _process(self, questions: Sequence[Question], side: Side) -> Any:
        texts = [self._chat(question) for question in questions]
        first = self.tokenizer.bos_token
        return self.processor(
            text=texts,
            images=[question.images for question in questions],
            padding=True,
            padding_side=side,
            return_tensors="pt",
            add_special_tokens=not (first and texts[0].startswith(first)),  # else a second mark of the beginning
            images_kwargs=self._images,
        )

    def _chat(self, question: Question) -> str:
        content = [
            {"type": "image"} if isinstance(part, Image.Image) else {"type": "text", "text": part}
            for part in question.parts
        ]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
