"""Loading a checkpoint's pipeline, and hashing its weights."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.single_file import load_single_file
from mmpo.records import content_id


def load_pipeline(
    config: CheckpointConfig,
    *,
    dtype: torch.dtype,
    revision: str | None = None,
    variant: str | None = None,
    quantize: str | None = None,
) -> Any:
    """The checkpoint's diffusers pipeline, safetensors only.

    Args:
        config: of the checkpoint.
        dtype: of the denoiser and the text encoders. The VAE stays in float32: SDXL's overflows in float16.
        quantize: "nf4" or "int8" loads the denoiser's linear layers in that precision, to compute in `dtype`.
    Raises:
        ValueError: weights are missing or unreadable, with the loader's own reason.
    """
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()  # a bar for every component hides the run's own lines
    transformers.utils.logging.disable_progress_bar()
    pipeline_class = getattr(diffusers, config.family.pipelines[0])
    skipped = {**dict.fromkeys((*config.family.skipped, *config.absent)), **config.family.pipeline_options}
    vae_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    if quantize is not None:
        skipped["quantization_config"] = quantization(config, quantize, dtype)
    if config.configs is not None:
        pipeline = load_single_file(
            pipeline_class, Path(config.path), config.configs, dtype=dtype, vae_dtype=vae_dtype, skipped=skipped
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
    try:
        pipeline = pipeline_class.from_pretrained(
            config.path,
            revision=revision,
            variant=variant,
            dtype={"default": dtype, "vae": vae_dtype},
            use_safetensors=True,
            **skipped,
        )
    except OSError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"model.path {config.path}: the weights cannot be loaded: {reason}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def quantization(config: CheckpointConfig, kind: str, dtype: torch.dtype) -> Any:
    """diffusers' quantisation of the denoiser alone, by bitsandbytes.

    Raises:
        ValueError: it is not installed, with the command that installs it; there is no GPU; or the checkpoint is a
            single file.
    """
    if config.configs is not None:
        raise ValueError("model.quantize: is for diffusers folders and hub names; a single file is loaded whole")
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        raise ValueError("model.quantize: needs bitsandbytes; pip install 'mmpo[quant]', or leave it out") from None
    if not torch.cuda.is_available():
        raise ValueError("model.quantize: diffusers quantises on a GPU alone, and there is none here; leave it out")
    from diffusers import BitsAndBytesConfig, PipelineQuantizationConfig

    options: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return PipelineQuantizationConfig(quant_mapping={config.family.denoiser: BitsAndBytesConfig(**options)})


def component_hashes(pipeline: Any) -> dict[str, str]:
    """`weights_hash` of every part of a pipeline that has weights, by component name."""
    return {name: weights_hash(part) for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def checkpoint_hash(pipeline: Any, hashes: Mapping[str, str] | None = None) -> str:
    """Hash of everything that decides what a pipeline samples: all weights and the scheduler's config.

    Args:
        hashes: of its components, where they are known; hashing gigabytes takes seconds.
    """
    parts = dict(hashes) if hashes is not None else component_hashes(pipeline)
    scheduler = {key: value for key, value in pipeline.scheduler.config.items() if key != "_diffusers_version"}
    return content_id("checkpoint", parts, type(pipeline.scheduler).__name__, scheduler)


@torch.no_grad()
def weights_hash(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a module's state: 64 hex digits, independent of files."""
    return tensors_hash(module.state_dict())


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """The same of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
