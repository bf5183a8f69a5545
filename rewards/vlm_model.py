"""A vision-language model of transformers: the next token's probabilities, and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rewards.devices import device_of, dtype_of
from rewards.exact_weights import check_keys
from rewards.question import Question
from rewards.vlm_inputs import Side, VlmInputs
from rewards.weight_places import check_place, local_place

Choose = Callable[[list[int]], Any]


@dataclass(frozen=True)
class Generated:
    """Answers as tokens.

    Args:
        ids: [M, T] of the M questions that can be asked; after an answer's end, padding.
        rows: which of the questions these are.
        faults: per question None, or why it cannot be asked.
        ends: the tokens that end an answer; a row without one was cut.
    """

    ids: Tensor
    rows: list[int]
    faults: list[str | None]
    ends: tuple[int, ...]


class VlmModel:
    """Any model that `AutoModelForImageTextToText` loads: Qwen2-VL, 2.5-VL, 3-VL, LLaVA and their like.

    Args:
        model: moved to `device`; its dtype is what it was loaded in.
        processor: with a chat template.
    Raises:
        ValueError: no chat template.
    """

    def __init__(self, model: Any, processor: Any, *, device: str) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._device, self._dtype = device, model.dtype
        text = model.config.get_text_config()
        self.inputs = VlmInputs(processor, limit=getattr(text, "max_position_embeddings", None))
        self.tokenizer = self.inputs.tokenizer

    @torch.inference_mode()
    def next_token(
        self, questions: Sequence[Question], *, side: Side = "right"
    ) -> tuple[Tensor, list[int], list[str | None]]:
        """What the first token of the answer would be: one forward, nothing is generated.

        Args:
            side: where the shorter questions are padded. The right is exact for every causal model.
        Returns:
            [M, V] float32 log-probabilities of the M questions that can be asked, which these are, and per question
            None or why it cannot be.
        """
        encoded = self.inputs.encode(questions, side=side)
        if encoded.batch is None:
            return torch.empty(0, 0), [], encoded.faults
        mask = encoded.batch["attention_mask"]
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)  # of each row's own tokens, padded left or right
        wanted, place = last.unique(return_inverse=True)  # all logits of all tokens would not fit
        logits = self._model(
            **encoded.batch.to(self._device, self._dtype), logits_to_keep=wanted.to(self._device), use_cache=False
        ).logits
        rows = torch.arange(len(place), device=logits.device)
        chosen = logits[rows, place.to(logits.device)].float()
        return chosen.log_softmax(-1).cpu(), encoded.rows, encoded.faults

    def answers(self, questions: Sequence[Question], *, tokens: int) -> tuple[list[str | None], list[str | None]]:
        """Greedy answers of at most `tokens` tokens; None where the second list says why there is none."""
        out = self.generate(questions, tokens=tokens)
        said: list[str | None] = [None] * len(questions)
        for row, text in zip(out.rows, self.tokenizer.batch_decode(out.ids, skip_special_tokens=True), strict=True):
            said[row] = text
        return said, out.faults

    @torch.inference_mode()
    def generate(self, questions: Sequence[Question], *, tokens: int, choose: Choose | None = None) -> Generated:
        """Answers as tokens, of at most `tokens` each: greedy, or of what `choose` leaves.

        Args:
            choose: of the questions that can be asked, a transformers `LogitsProcessor` for their rows.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        encoded = self.inputs.encode(questions, side="left")
        if encoded.batch is None:
            return Generated(torch.empty(0, 0, dtype=torch.long), [], encoded.faults, self.ends)
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=tokens,
            repetition_penalty=1.0,  # or the model's own pushes ratings away from the numbers that the question names
            eos_token_id=list(self.ends) or None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        out = self._model.generate(
            **encoded.batch.to(self._device, self._dtype),
            generation_config=greedy,
            logits_processor=LogitsProcessorList([choose(encoded.rows)] if choose is not None else []),
        )
        return Generated(out[:, encoded.batch["input_ids"].shape[1] :].cpu(), encoded.rows, encoded.faults, self.ends)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        own = self._model.generation_config.eos_token_id
        own = self.tokenizer.eos_token_id if own is None else own
        return () if own is None else tuple(own) if isinstance(own, list | tuple) else (own,)


def load_vlm(
    weights: str, *, revision: str | None = None, device: str | None = None, dtype: str = "bfloat16"
) -> VlmModel:
    """A model and its processor from a hub name or folder, or the one that ships, `shapes/llava`.

    Attention is PyTorch's own everywhere, so that scores do not depend on which other packages are installed.

    Raises:
        ValueError: nothing to load there.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    precision = dtype_of(dtype)
    check_place(weights)
    place = local_place(weights) or weights
    try:
        processor = AutoProcessor.from_pretrained(place, revision=revision)
        model, said = AutoModelForImageTextToText.from_pretrained(
            place, revision=revision, dtype=precision, attn_implementation="sdpa", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"weights {weights}: no vision-language model of transformers with its processor found there "
            f"({str(error).splitlines()[0]}); give a hub name or a folder"
        ) from None
    check_keys(said["missing_keys"], (), weights)  # transformers fills them with random numbers, and goes on
    return VlmModel(model, processor, device=device_of(device))
