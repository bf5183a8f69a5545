"""The contract of an architecture family, and the table from a checkpoint's pipeline class to its family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.contracts import Condition
from mmpo.models.quiet import quiet_tokenizers


@dataclass(frozen=True)
class Family:
    """What the rest of mmpo must know of one kind of checkpoint.

    Args:
        name: short name, such as "sd".
        pipelines: diffusers pipeline classes that are of this family.
        denoiser: the pipeline's component that is trained.
        skipped: pipeline components that are not needed and not loaded.
        attention, convolutions: module names that LoRA targets stand for; a transformer has feed-forward layers in
            place of convolutions.
        encode_prompts: `(pipeline, texts) -> {name: [N, ...]}` on the pipeline's device.
        sampling_inputs: `(condition of N samples, of the empty prompt) -> arguments of the pipeline's call`.
        pipeline_options: arguments of the pipeline's constructor beside its components.
        predict: `(denoiser, x_t [N, C, H, W], timesteps [N], condition) -> [N, C, H, W]`.
        image_conditions: what of an image itself, as the latent cache keeps it, is a condition of its own.
        optional: components that a checkpoint may have been saved without.
        call_options: arguments that every call of this pipeline takes beside texts and sampling settings.
    """

    name: str
    pipelines: tuple[str, ...]
    denoiser: str
    skipped: tuple[str, ...]
    attention: tuple[str, ...]
    convolutions: tuple[str, ...]
    encode_prompts: Callable[[Any, Sequence[str]], dict[str, Tensor]]
    sampling_inputs: Callable[[Condition, Condition], dict[str, Tensor]]
    pipeline_options: Mapping[str, Any]
    predict: Callable[[nn.Module, Tensor, Tensor, Condition], Tensor]
    image_conditions: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    call_options: Callable[[Any], dict[str, Any]] = lambda pipeline: {}


def family_of(pipeline_class: str, where: str) -> Family:
    """The family of a checkpoint by the pipeline class in its model_index.json.

    Raises:
        ValueError: names the class and the ones that are supported.
    """
    from mmpo.models import sd, sd3, sdxl

    families = (sd.FAMILY, sdxl.FAMILY, sd3.FAMILY)
    for family in families:
        if pipeline_class in family.pipelines:
            return family
    known = ", ".join(name for family in families for name in family.pipelines)
    raise ValueError(f"model.path {where}: pipeline class {pipeline_class} is not supported yet; supported: {known}")


def call_options(pipeline: Any) -> dict[str, Any]:
    """Arguments that every call of this pipeline takes beside texts and sampling settings; none of an unknown class."""
    try:
        family = family_of(type(pipeline).__name__, "")
    except ValueError:
        return {}
    return family.call_options(pipeline)


def long_prompts(pipeline: Any, texts: Iterable[str]) -> int:
    """How many of the texts are longer than a text encoder of the pipeline takes; the rest of them is cut."""
    tokenizers = [
        part for name, part in pipeline.components.items() if name.startswith("tokenizer") and part is not None
    ]
    with quiet_tokenizers():
        return sum(any(len(t(text).input_ids) > t.model_max_length for t in tokenizers) for text in texts)


ENCODED_AT_ONCE = 2**20
"""Pixels that one call of a VAE's encoder takes; its activations are hundreds of bytes for each, in float32."""


@torch.no_grad()
def encode_images(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the VAE's posterior, in the denoiser's scale.

    Args:
        vae: an AutoencoderKL.
        pixels: [N, 3, H, W] in [−1, 1].
    Returns:
        Two tensors [N, C, h, w], float32: (mean − shift_factor)·scaling_factor and std·scaling_factor.
    """
    at_once = images_at_once(*pixels.shape[2:])
    if len(pixels) > at_once:
        parts = [encode_images(vae, part) for part in pixels.split(at_once)]
        means, stds = (torch.cat(part) for part in zip(*parts, strict=True))
        return means, stds
    with _without_overflow(vae):
        posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scale = vae.config.scaling_factor
    return (posterior.mean.float() - shift) * scale, posterior.std.float() * scale


@torch.no_grad()
def decode_pixels(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """[N, 3, H, W], mostly in [−1, 1], of latents [N, C, h, w] in the denoiser's scale."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    with _without_overflow(vae):
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + shift
        return vae.decode(scaled, return_dict=False)[0]


@contextmanager
def _without_overflow(vae: Any) -> Iterator[None]:
    """A VAE in float16 whose config says that it overflows there, such as SDXL's, is in float32 inside."""
    dtype = vae.dtype
    upcast = dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if upcast:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype)


def images_at_once(height: int, width: int) -> int:
    """Images of this size that one call of a VAE's encoder takes."""
    return max(1, ENCODED_AT_ONCE // (height * width))
