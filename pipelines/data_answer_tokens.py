"""How many tokens a row of answers is to a vision-language model, in its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpo.answer_pairs import AnswerPair
from mmpo.data.images import decode
from pipelines.data_answer_card import Count, TokenCount
from pipelines.data_tokens import UNLIMITED


def token_counter(checkpoint: str) -> Count:
    """Counts by a checkpoint's processor.

    Args:
        checkpoint: a transformers folder, or a name on the hub.
    Raises:
        ValueError: it has no processor for images and text with a chat template.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--model {checkpoint}: its processor cannot be had ({first}); leave --model out") from None
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ValueError(
            f"--model {checkpoint}: no processor for images and text; name a vision-language model's folder"
        )
    if not getattr(processor, "chat_template", None):
        raise ValueError(f"--model {checkpoint}: its processor has no chat template; leave --model out")
    return lambda pair: _count(processor, pair)


def _count(processor: Any, pair: AnswerPair) -> TokenCount:
    """Raises: ValueError where the template or the processor refuses the row."""
    images = [decode(data) for data in pair.images]
    try:
        chosen, of_images = _length(processor, pair, pair.chosen, images)
        rejected = None if pair.rejected is None else _length(processor, pair, pair.rejected, images)[0]
    except Exception as error:  # templates raise jinja's own errors
        raise ValueError(f"the model's processor refuses this row: {error}") from None
    most = processor.tokenizer.model_max_length
    return TokenCount(chosen, rejected, of_images, most if most < UNLIMITED else None)


def _length(processor: Any, pair: AnswerPair, answer: str, images: Sequence[Any]) -> tuple[int, int]:
    """Tokens of the row with this answer, and of them those of images."""
    messages = [{"role": turn.role, "content": [_block(part) for part in turn.parts]} for turn in pair.turns]
    messages.append({"role": "assistant", "content": [_block(answer)]})
    said = processor.apply_chat_template(messages, tokenize=False)
    ids = processor(text=[said], **({"images": list(images)} if images else {}))["input_ids"][0]
    token = getattr(processor, "image_token_id", None)
    if token is None:
        token = processor.tokenizer.convert_tokens_to_ids(getattr(processor, "image_token", "<image>"))
    return len(ids), sum(int(one) == token for one in ids)


def _block(part: str | None) -> dict[str, str]:
    return {"type": "image"} if part is None else {"type": "text", "text": part}
