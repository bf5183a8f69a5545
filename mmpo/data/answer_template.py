"""A conversation and its answer as one text, by the model's own chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmpo.answer_pairs import Turn

Place = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A conversation that ends with the answer's end of turn.

    Args:
        text: with one image mark per image, not yet one per image token.
        answer: characters [start, stop) of the answer.
        end: characters of its end of turn.
        history: the same of earlier answers, each with its end of turn.
    """

    text: str
    answer: Place
    end: Place
    history: tuple[Place, ...]


class ChatText:
    """Renders conversations by a processor's chat template.

    The template sees a stand-in for every answer, which is replaced afterwards: so where an answer stands is known
    exactly. What the template writes after the answer counts up to its first special token; a template that writes none
    (LLaVA-1.5's) gets the tokenizer's end of sequence, as such models were trained.

    Args:
        processor: with a chat template and an image token.
    Raises:
        ValueError: it lacks one of them, or its tokenizer cannot say which characters a token covers.
    """

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        if not (processor.chat_template or tokenizer.chat_template):
            raise ValueError("model.path: the processor has no chat template; take a chat or instruct model")
        if not getattr(processor, "image_token", None):
            raise ValueError(
                f"model.path: {type(processor).__name__} names no image token; its images cannot be placed"
            )
        if not tokenizer.is_fast:
            raise ValueError("model.path: the tokenizer is a slow one, which does not say where its tokens stand")
        self._processor, self._eos = processor, tokenizer.eos_token or ""
        self.image_mark: str = processor.image_token
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._marks = sorted({*added, self.image_mark, *tokenizer.all_special_tokens}, key=len, reverse=True)
        self._end = re.compile(r"\s*(?:" + "|".join(map(re.escape, self._marks)) + ")")

    def mark_in(self, text: str) -> str | None:
        """A special token that stands in a text of the data, where it would end the turn or add an image."""
        return next((mark for mark in self._marks if mark in text), None)

    def render(self, turns: Sequence[Turn], answer: str, *, blind: bool = False) -> Rendered:
        """The conversation with an answer.

        Args:
            blind: without its images.
        Raises:
            ValueError: the template refuses the conversation (such as a system turn), or leaves out or repeats an
                answer or an image.
        """
        said = [_text(turn) for turn in turns if turn.role == "assistant"] + [answer]
        pieces = self._pieces(turns, len(said), blind)
        places: list[Place] = []
        ends: list[Place] = []
        text = pieces[0]
        for own, rest in zip(said, pieces[1:], strict=True):
            start = len(text)
            text += own
            places.append((start, len(text)))
            found = self._end.match(rest)
            ends.append((len(text), len(text) + (found.end() if found else 0)))
            text += rest
        last = ends[-1]
        text = text[: last[1]] if last[1] > last[0] else text[: last[0]] + self._eos
        images = 0 if blind else sum(turn.images for turn in turns)
        if text.count(self.image_mark) != images:
            raise ValueError(
                f"the chat template writes {text.count(self.image_mark)} image marks for {images} images; "
                "it may allow images in the first turn only"
            )
        history = tuple((place[0], end[1]) for place, end in zip(places[:-1], ends[:-1], strict=True))
        return Rendered(text, places[-1], (places[-1][1], len(text)), history)

    def _pieces(self, turns: Sequence[Turn], answers: int, blind: bool) -> list[str]:
        """What the template writes between the answers."""
        from jinja2 import TemplateError

        stand_ins = [f"\ue000{number}\ue001" for number in range(answers)]
        left = iter(stand_ins)
        messages = [_message(turn, next(left) if turn.role == "assistant" else None, blind) for turn in turns]
        messages.append({"role": "assistant", "content": [{"type": "text", "text": stand_ins[-1]}]})
        try:
            text = self._processor.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:  # what templates raise is no ValueError
            raise ValueError(f"the chat template refuses the conversation: {error}") from None
        pieces = re.split("\ue000[0-9]+\ue001", text)
        if [text.count(one) for one in stand_ins] != [1] * answers:
            raise ValueError("the chat template does not write every answer once, so its tokens cannot be told")
        return pieces


def _text(turn: Turn) -> str:
    return "".join(part for part in turn.parts if part is not None)


def _message(turn: Turn, stand_in: str | None, blind: bool) -> dict[str, Any]:
    if stand_in is not None:
        return {"role": turn.role, "content": [{"type": "text", "text": stand_in}]}
    content: list[dict[str, str]] = []
    for part in turn.parts:
        if part is not None:
            content.append({"type": "text", "text": part})
        elif not blind:
            content.append({"type": "image"})
    return {"role": turn.role, "content": content}
