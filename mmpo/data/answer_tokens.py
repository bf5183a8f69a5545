"""A row of preference data to tokens: every branch of it as the model reads it, or what is wrong with the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmpo.answer_batch import BRANCHES
from mmpo.answer_pairs import AnswerPair, Span
from mmpo.data.answer_template import ChatText, Rendered
from mmpo.data.image_tokens import ImageReader, ImageTokens
from mmpo.records import content_id

Fault = Literal["too_long", "broken_image", "empty_answer", "special_token", "span", "template", "same_answers"]


@dataclass(frozen=True)
class RowFault:
    """A row that cannot be trained on; the caller drops and counts it, or raises `error`.

    Args:
        id, source: the row's.
        kind: what is wrong, for counting.
        reason: what is wrong, in words.
    """

    id: str
    source: str
    kind: Fault
    reason: str

    def error(self) -> ValueError:
        """What to raise where a bad row is fatal."""
        return ValueError(f"row {self.id} ({self.source or 'no source'}): {self.reason}")


@dataclass(frozen=True)
class AnswerTokens:
    """One branch of one row; per token its id, whether it is scored, its weight, and its type if the model asks.

    Args:
        start: where the answer's first token stands.
        images: keys of its images, in order.
        cut: whether the answer was cut; then its end of turn is not there.
    """

    ids: tuple[int, ...]
    scored: tuple[bool, ...]
    weights: tuple[float, ...]
    types: tuple[int, ...] | None
    start: int
    images: tuple[str, ...]
    cut: bool = False

    @property
    def key(self) -> str:
        """Hash of all that a model's log-probabilities of this branch depend on, besides model and processor."""
        return content_id("answer-tokens", list(self.ids), list(self.scored), list(self.images))


@dataclass(frozen=True)
class EncodedPair:
    """One row, encoded.

    Args:
        branches: those of the asked ones that the row has.
        images: by key, each distinct one once.
        types_name: under which name the model takes the types of tokens.
    """

    id: str
    branches: Mapping[str, AnswerTokens]
    images: Mapping[str, ImageTokens]
    types_name: str
    extra: Mapping[str, float | bool | tuple[float, ...]] = field(default_factory=dict)

    @property
    def image_tokens(self) -> int:
        """Tokens of images in the branch that has most."""
        counts = (sum(len(self.images[key].ids) for key in branch.images) for branch in self.branches.values())
        return max(counts, default=0)

    @property
    def length(self) -> int:
        """Tokens of the longest branch."""
        return max((len(branch.ids) for branch in self.branches.values()), default=0)


class _Bad(ValueError):
    def __init__(self, kind: Fault, reason: str) -> None:
        super().__init__(reason)
        self.kind: Fault = kind


class AnswerEncoder:
    """Rows to tokens by a model's processor and chat template. Image tokens are never cut.

    Args:
        processor: of the model.
        branches: names in `BRANCHES`; a row without rejected images has no `visual`, one without images no `prior`.
        max_length: tokens of a branch, the images' among them; a longer one is a fault of its row. None: any.
        max_answer_tokens: longer answers are cut to so many tokens, and end without an end of turn. None: never.
        history: whether earlier answers of the conversation are scored too.
        average: whether the weights of a branch's tokens add up to 1, so that weighted sums are means.
    Raises:
        ValueError: an unknown branch, or a processor that `ChatText` refuses.
    """

    def __init__(
        self,
        processor: Any,
        *,
        branches: Sequence[str] = ("chosen", "rejected"),
        max_length: int | None = None,
        max_answer_tokens: int | None = None,
        history: bool = False,
        average: bool = False,
    ) -> None:
        unknown = [name for name in branches if name not in BRANCHES]
        if unknown or not branches:
            raise ValueError(f"branches: expected some of {', '.join(BRANCHES)}, got {list(branches)}")
        for option, value in (("max_length", max_length), ("max_answer_tokens", max_answer_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{option}: expected at least 1 token, got {value}")
        self._chat = ChatText(processor)
        self._processor, self._tokenizer = processor, processor.tokenizer
        self._images = ImageReader(processor, self._chat.image_mark)
        self._mark_id = self._tokenizer.convert_tokens_to_ids(self._chat.image_mark)
        self._branches = tuple(dict.fromkeys(branches))
        self._max_length, self._max_answer, self._history = max_length, max_answer_tokens, history
        self._average = average
        self._checked: set[int] = {0}

    @property
    def tokenizer(self) -> Any:
        """That of the processor."""
        return self._tokenizer

    @property
    def pad_id(self) -> int:
        """The token that fills shorter rows; nothing attends to it."""
        own = self._tokenizer.pad_token_id
        return own if own is not None else (self._tokenizer.eos_token_id or 0)

    @property
    def identity(self) -> str:
        """Hash of what makes tokens and pixels of rows: with `AnswerTokens.key` part of the key of cached log-probs."""
        import transformers

        template = self._processor.chat_template or self._tokenizer.chat_template
        options = [self._max_answer, self._history]
        words = content_id("words", sorted(self._tokenizer.get_vocab().items()))
        about = [self._processor.to_json_string(), str(template), words, transformers.__version__]
        return content_id("answer-encoder", *about, *options)

    def encode(self, pair: AnswerPair) -> EncodedPair | RowFault:
        """All asked branches that the row has, or what is wrong with it.

        Raises:
            ValueError: the model cannot be given such rows at all: its processor writes other tokens for these images
                than for each alone, or it has no image of zeros.
        """
        images: dict[str, ImageTokens] = {}
        try:
            self._check_texts(pair)
            found = {name: self._branch(pair, name, images) for name in self._branches}
            self._check_cut(found.get("chosen"), found.get("rejected"))
        except _Bad as bad:
            return RowFault(pair.id, pair.source, bad.kind, str(bad))
        branches = {name: branch for name, branch in found.items() if branch is not None}
        return EncodedPair(pair.id, branches, images, self._images.types_name, pair.extra)

    def _check_texts(self, pair: AnswerPair) -> None:
        for side in ("chosen", "rejected"):
            answer = getattr(pair, side)
            if answer is not None and not answer.strip():
                raise _Bad("empty_answer", f"the {side} answer is empty; leave the row out")
        turns = [part for turn in pair.turns for part in turn.parts if part is not None]
        for text in (*turns, pair.chosen, pair.rejected or ""):
            mark = self._chat.mark_in(text)
            if mark is not None:
                raise _Bad("special_token", f"a text holds {mark!r}, a mark of this model's own; take it out")

    def _branch(self, pair: AnswerPair, name: str, images: dict[str, ImageTokens]) -> AnswerTokens | None:
        side, source = BRANCHES[name]
        answer = getattr(pair, side)
        files = pair.rejected_images if source == "rejected" else pair.images
        if answer is None or files is None or (not files and source != "own"):
            return None
        shown = () if source == "none" else [self._image(data, number) for number, data in enumerate(files)]
        if source == "zero":
            shown = [image.zero() for image in shown]
        images.update({image.key: image for image in shown})
        try:
            rendered = self._chat.render(pair.turns, answer, blind=source == "none")
        except ValueError as error:
            raise _Bad("template", str(error)) from None
        spans = pair.chosen_spans if side == "chosen" else pair.rejected_spans
        tokens = self._tokens(rendered, list(shown), spans, len(answer))
        if self._max_length is not None and len(tokens.ids) > self._max_length:
            raise _Bad(
                "too_long",
                f"branch {name}: {len(tokens.ids)} tokens, {sum(len(image.ids) for image in shown)} of them the "
                f"images', and max_length is {self._max_length}; images are never cut: raise it, take smaller images, "
                "or drop the row",
            )
        if source == "own" and len(shown) not in self._checked:
            self._check_as_processor(rendered, files, tokens)
        return tokens

    def _check_cut(self, chosen: AnswerTokens | None, rejected: AnswerTokens | None) -> None:
        """Cut where they are still the same, two answers would train nothing, without a word."""
        if chosen is not None and rejected is not None and chosen.cut and chosen.ids == rejected.ids:
            raise _Bad(
                "same_answers",
                f"chosen and rejected are the same in the first {self._max_answer} tokens, to which they are cut; "
                "raise max_answer_tokens, or leave the row out",
            )

    def _image(self, data: bytes, number: int) -> ImageTokens:
        try:
            return self._images.read(data)
        except ValueError as error:
            raise _Bad("broken_image", f"image {number + 1}: {error}") from None

    def _tokens(
        self, rendered: Rendered, images: list[ImageTokens], spans: tuple[Span, ...], length: int
    ) -> AnswerTokens:
        out = self._tokenizer(rendered.text, add_special_tokens=self._adds(rendered.text), return_offsets_mapping=True)
        first, last = rendered.answer[0], rendered.end[1]
        parts = [(first, last), *(rendered.history if self._history else ())]
        weigh = [(first + span.start, first + span.stop, span.weight) for span in _checked(spans, length)]
        ids: list[int] = []
        scored: list[bool] = []
        weights: list[float] = []
        types: list[int] = []
        start, answer, left = -1, 0, iter(images)
        for token, (begin, stop) in zip(out["input_ids"], out["offset_mapping"], strict=True):
            if token == self._mark_id:
                image = next(left)
                ids += image.ids
                scored += [False] * len(image.ids)
                weights += [0.0] * len(image.ids)
                types += image.types or ()
                continue
            if start < 0 and stop > first:
                start = len(ids)
            answer += begin < rendered.answer[1] and stop > first
            counts = any(begin < end and stop > head for head, end in parts)
            hits = [weight for head, end, weight in weigh if begin < end and stop > head]
            ids.append(token)
            scored.append(counts)
            weights.append((hits[-1] if hits else 1.0) if counts else 0.0)
            types.append(0)
        cut = self._max_answer is not None and answer > self._max_answer
        kept = start + (self._max_answer or 0) if cut else len(ids)
        found_types = tuple(types[:kept]) if len(types) == len(ids) else None
        keys = tuple(image.key for image in images)
        total = sum(weights[:kept]) if self._average else 1.0
        weights = [weight / total for weight in weights[:kept]]
        return AnswerTokens(tuple(ids[:kept]), tuple(scored[:kept]), tuple(weights), found_types, start, keys, cut)

    def _adds(self, text: str) -> bool:
        """Whether the tokenizer is to add its mark of the beginning: not where the template wrote it."""
        bos = self._tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def _check_as_processor(self, rendered: Rendered, files: Sequence[bytes], tokens: AnswerTokens) -> None:
        """The first row with so many images is also put through the processor whole, which must say the same."""
        from mmpo.data.images import decode

        text = rendered.text
        out = self._processor(
            text=[text], images=[[decode(data) for data in files]], add_special_tokens=self._adds(text)
        )
        own = list(out["input_ids"][0])
        if tuple(own[: len(tokens.ids)]) != tokens.ids or (not tokens.cut and len(own) != len(tokens.ids)):
            raise ValueError(
                f"model.path: {type(self._processor).__name__} writes other tokens for a row of {len(files)} images "
                "than for each image alone; such rows cannot be encoded for this model"
            )
        self._checked.add(len(files))


def _checked(spans: tuple[Span, ...], length: int) -> tuple[Span, ...]:
    for span in spans:
        if not 0 <= span.start < span.stop <= length:
            raise _Bad("span", f"a span [{span.start}, {span.stop}) lies outside of its answer of {length} characters")
    return spans
