"""A CLIP that embeds images and texts: any encoder's precision, float32 in the last product, each text once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from rewards.clip_texts import projected, tokenised
from rewards.image_rows import Scored, cut_note, distinct, empty_texts, score_rows
from rewards.scores import Scores
from rewards.views import CLIP_MEAN, CLIP_STD, normalised

KEPT_TEXTS = 20_000  # embeddings of so many texts, 80 MB at CLIP-H's width


class ClipModel:
    """Embeddings of a transformers `CLIPModel`, of length 1 and in float32.

    Args:
        model: moved to `device` and `dtype`; its logit scale is read before that, as bfloat16 would change it by 1 %.
        tokenizer: of the text tower.
        mean, std: of the image tower's pixels.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str,
        dtype: torch.dtype,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
    ) -> None:
        self.scale = float(model.logit_scale.detach().float().exp())
        self.size = int(model.config.vision_config.image_size)
        self.model = model.eval().requires_grad_(False).to(device, dtype)
        self.tokenizer, self._device, self._dtype = tokenizer, device, dtype
        self.mean, self.std = mean, std
        self.length = int(model.config.text_config.max_position_embeddings)
        self._texts: OrderedDict[str, tuple[Tensor, int]] = OrderedDict()

    @torch.inference_mode()
    def images(self, views: Sequence[Tensor], **inputs: Tensor) -> Tensor:
        """[N, D] of N views [3, size, size], uint8 or in [0, 1]; `inputs` [N, ...] as `pixels` takes them."""
        return self.pixels(torch.stack(list(views)), **inputs)

    def pixels(self, pixels: Tensor, **inputs: Tensor) -> Tensor:
        """[N, D] of [N, 3, size, size], uint8 or in [0, 1]; a gradient passes.

        Args:
            inputs: what else this model's `get_image_features` takes.
        """
        pixels = pixels.to(self._device, non_blocking=True)
        pixels = normalised(pixels, self.mean, self.std).to(self._dtype)
        return normalize(projected(self.model.get_image_features(pixel_values=pixels, **inputs)).float(), dim=-1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """[N, D] of N texts, and how many tokens each has with its two marks; what the tower cannot read is cut."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            ids, lengths = tokenised(self.tokenizer, new, self.length)
            out = self.model.get_text_features(input_ids=ids.to(self._device))
            embedded = normalize(projected(out).float(), dim=-1)
            self._texts.update(zip(new, zip((row.clone() for row in embedded), lengths, strict=True), strict=True))
        rows = [self._texts[text] for text in texts]
        for text in dict.fromkeys(texts):
            self._texts.move_to_end(text)
        while len(self._texts) > KEPT_TEXTS:
            self._texts.popitem(last=False)
        return torch.stack([row[0] for row in rows]), [row[1] for row in rows]

    def cosines(
        self, views: Sequence[Tensor], texts: Sequence[str], **inputs: Tensor
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """[N] cosines of each view with its text, and per row a note where the text was cut."""
        said, lengths = self.texts(texts)
        images, numbers = (list(views), list(range(len(views)))) if inputs else distinct(views)
        values = (self.images(images, **inputs)[numbers] * said).sum(-1)
        return values.cpu().numpy(), [cut_note(length, self.length) for length in lengths]


def cosine_scores(
    clip: ClipModel,
    views: Sequence[Any],
    prompts: Sequence[str],
    responses: Sequence[str | None],
    scale: float,
    least: float = -1.0,
    **inputs: Tensor,
) -> Scores:
    """`scale` times the cosine of each image with its prompt, or with the answer where there is one.

    A row without text fails; a cosine below `least` counts as that; `inputs` [N, ...] as `ClipModel.pixels` takes them.
    """
    texts = [prompt if said is None else said for prompt, said in zip(prompts, responses, strict=True)]

    def run(rows: list[int]) -> Scored:
        kept = {name: value[rows] for name, value in inputs.items()}
        cosines, notes = clip.cosines([views[row] for row in rows], [texts[row] for row in rows], **kept)
        return np.asarray(scale * np.maximum(cosines, least), np.float32), notes

    return score_rows(empty_texts(texts), run)
