"""ImageReward's network on transformers' BLIP: an image encoder, a text encoder that looks at it, a linear head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""ImageReward's released constants: mean and deviation of the head's output, which make the score's scale."""

VISION_EPS = 1e-6  # of timm's vision transformer; transformers' BLIP has 1e-5 by default


@dataclass(frozen=True)
class BlipSizes:
    """The network's sizes.

    Args:
        vision, text: keywords of transformers' configs.
        head: width before and after each linear layer of the head.
    """

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    head: tuple[int, ...]


class BlipReward(nn.Module):
    """Score of an image and a prompt; `images` once an image, `forward` once a row.

    The head has no activations, as released; it is computed in float32 whatever the encoders' dtype.
    """

    def __init__(self, sizes: BlipSizes) -> None:
        from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        super().__init__()
        self.vision = BlipVisionModel(BlipVisionConfig(**sizes.vision, layer_norm_eps=VISION_EPS))
        self.text = BlipTextModel(BlipTextConfig(**sizes.text), add_pooling_layer=False)
        self.head = nn.ModuleList(nn.Linear(*widths) for widths in zip(sizes.head, sizes.head[1:], strict=False))

    def images(self, pixels: Tensor) -> Tensor:
        """[N, P, D] tokens of N normalised images [N, 3, H, W]."""
        return self.vision(pixel_values=pixels).last_hidden_state

    def forward(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """[N] scores.

        Args:
            tokens: [N, P, D] from `images`.
            ids, mask: [N, L] of the prompts, the mask 1 where there is a token.
        """
        seen = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        hidden = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=tokens,
            encoder_attention_mask=seen,
            is_decoder=False,
        ).last_hidden_state[:, 0]
        hidden = hidden.float()
        for layer in self.head:
            hidden = layer(hidden)
        return (hidden[:, 0] - MEAN) / DEVIATION

    def place(self, device: str, dtype: torch.dtype) -> BlipReward:
        """On the device, the encoders in `dtype`, the head in float32, for evaluation."""
        self.eval().requires_grad_(False).to(device)
        for encoder in (self.vision, self.text):
            encoder.to(dtype)
        self.head.float()
        return self
