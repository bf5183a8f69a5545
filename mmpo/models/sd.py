"""Stable Diffusion 1.x and 2.x: one text encoder, a UNet, ε- or v-prediction."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.contracts import Condition
from mmpo.models.families import Family
from mmpo.models.quiet import quiet_tokenizers


@torch.no_grad()
def encode_prompts(pipeline: Any, texts: Sequence[str]) -> dict[str, Tensor]:
    """{"prompt_embeds": [N, T, D]}, by the pipeline's own `encode_prompt` (77 tokens of CLIP's last layer)."""
    with quiet_tokenizers():
        embeds, _ = pipeline.encode_prompt(list(texts), pipeline.device, 1, do_classifier_free_guidance=False)
    return {"prompt_embeds": embeds}


def sampling_inputs(condition: Condition, null: Condition) -> dict[str, Tensor]:
    """Arguments of the pipeline's call in place of texts."""
    embeds = condition["prompt_embeds"]
    return {"prompt_embeds": embeds, "negative_prompt_embeds": null["prompt_embeds"].expand_as(embeds)}


def predict(denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
    """The UNet's prediction [N, C, H, W]."""
    return denoiser(noisy, timesteps, encoder_hidden_states=condition["prompt_embeds"], return_dict=False)[0]


FAMILY = Family(
    name="sd",
    pipelines=("StableDiffusionPipeline",),
    denoiser="unet",
    skipped=("safety_checker", "feature_extractor", "image_encoder"),
    attention=("to_q", "to_k", "to_v", "to_out.0"),
    convolutions=("conv1", "conv2", "conv_shortcut"),
    encode_prompts=encode_prompts,
    sampling_inputs=sampling_inputs,
    pipeline_options=MappingProxyType({"requires_safety_checker": False}),
    predict=predict,
)
