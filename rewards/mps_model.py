"""MPS: a CLIP's image tokens read those words of the prompt that a condition asks about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, pad

from rewards.clip_texts import tokenised
from rewards.image_rows import Scored, cut_note, distinct
from rewards.mps_cross import CrossModel
from rewards.views import normalised

KEPT_PROMPTS = 256  # their tokens: 80 MB at CLIP-H's width in float32


@dataclass(frozen=True)
class MpsParts:
    """What the weights hold.

    Args:
        clip: transformers' `CLIPModel`.
        cross: the cross model.
        angles: [layers, P, head] rotary angles of the image tokens, float32.
    """

    clip: Any
    cross: CrossModel
    angles: Tensor


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt's tokens [T, D], its embedding [D] in float32, its mask [T], and how many tokens it had."""

    tokens: Tensor
    embedding: Tensor
    mask: Tensor
    length: int


class MpsModel:
    """Scores of images and prompts under one condition.

    Args:
        parts: moved to `device` and `dtype`; the logit scale and the rotary angles stay float32.
        tokenizer: CLIP's; prompts are padded to the model's length with its pad token, which the model reads, too.
        condition: what people were asked to judge by.
        threshold: words whose similarity with the condition is at most this share of the prompt's most similar are
            hidden from the image.
    """

    def __init__(
        self, parts: MpsParts, tokenizer: Any, *, condition: str, threshold: float, device: str, dtype: torch.dtype
    ) -> None:
        self.clip = parts.clip
        self.scale = float(self.clip.logit_scale.detach().float().exp())
        self.size = int(self.clip.config.vision_config.image_size)
        self.cross, self.angles = parts.cross, parts.angles.to(device)
        nn.ModuleList([self.clip, self.cross]).eval().requires_grad_(False).to(device, dtype)
        self._tokenizer, self._threshold = tokenizer, threshold
        self._length = int(self.clip.config.text_config.max_position_embeddings)
        self._prompts: OrderedDict[str, ReadPrompt] = OrderedDict()
        with torch.inference_mode():
            self._condition = self._texts([condition])[0][0]

    @torch.inference_mode()
    def score(self, views: Sequence[Tensor], prompts: Sequence[str]) -> Scored:
        """[N] of N views [3, size, size] and their prompts, and notes where a prompt was cut."""
        images, numbers = distinct(views)
        image = self._images(torch.stack(images))[torch.tensor(numbers, device=self.angles.device)]
        read = self._read(prompts)
        text, mask = torch.stack([row.tokens for row in read]), torch.stack([row.mask for row in read])
        seen = self.cross(image, text, mask, self.angles)[:, 0].float()
        values = self.scale * cosine_similarity(seen, torch.stack([row.embedding for row in read]), dim=-1)
        return values.cpu().numpy(), [cut_note(row.length, self._length) for row in read]

    def _images(self, pixels: Tensor) -> Tensor:
        """[N, P, D]: every token projected, before the tower's last norm, as MPS was trained."""
        weight = self.clip.visual_projection.weight
        hidden = self.clip.vision_model(normalised(pixels.to(weight.device, non_blocking=True)).to(weight.dtype))
        return self.clip.visual_projection(hidden.last_hidden_state)

    def _texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, list[int]]:
        """[N, T, D] projected tokens, [N, D] that of the end mark, and how many tokens each text has."""
        ids, lengths = tokenised(self._tokenizer, texts, self._length)
        padded = pad(ids, (0, self._length - ids.shape[1]), value=self._tokenizer.pad_token_id)
        projection = self.clip.text_projection
        hidden = self.clip.text_model(input_ids=padded.to(projection.weight.device))
        return projection(hidden.last_hidden_state), projection(hidden.pooler_output), lengths

    def _read(self, prompts: Sequence[str]) -> list[ReadPrompt]:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        if new:
            tokens, ends, lengths = self._texts(new)
            masks = word_mask(tokens, self._condition, self._threshold)
            for prompt, *row in zip(new, tokens, ends.float(), masks, lengths, strict=True):
                tokens_of, end, mask, length = row
                self._prompts[prompt] = ReadPrompt(tokens_of.clone(), end.clone(), mask.clone(), length)
        read = [self._prompts[prompt] for prompt in prompts]
        for prompt in dict.fromkeys(prompts):
            self._prompts.move_to_end(prompt)
        while len(self._prompts) > KEPT_PROMPTS:
            self._prompts.popitem(last=False)
        return read


def word_mask(tokens: Tensor, condition: Tensor, threshold: float) -> Tensor:
    """[N, T] float32: 0 for words that the image may read, −inf for the others.

    A word's similarity is its largest product with a token of the condition, as a share of the largest in its own
    prompt; the released training code divides by the largest of the batch, which is the same for the batches of one
    that its evaluation runs.

    Args:
        tokens: [N, T, D] of the prompts.
        condition: [C, D].
        threshold: the share up to which a word is hidden.
    """
    similar = (tokens.float() @ condition.float().T).amax(dim=2)
    share = similar / similar.amax(dim=1, keepdim=True)
    return torch.where(share > threshold, 0.0, -torch.inf)
