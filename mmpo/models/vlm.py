"""Loading a vision-language model of transformers with its processor."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmpo.models.checkpoint import resolve
from mmpo.models.vlm_pixels import limit_pixels


@dataclass(frozen=True)
class Vlm:
    """A model and what prepares its inputs.

    Args:
        model: what `AutoModelForImageTextToText` gives: LLaVA-1.5, NeXT and OneVision, Qwen2-VL, 2.5-VL and 3-VL,
            SmolVLM, Idefics3 and their like. In evaluation mode.
        processor: what `AutoProcessor` gives.
        path: what it was loaded from.
    """

    model: Any
    processor: Any
    path: str


def load_vlm(
    path: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
    quantize: str | None = None,
    device: str | torch.device | None = None,
    max_pixels: int | None = None,
) -> Vlm:
    """A model by hub name, folder or shapes/NAME; safetensors only, no code from the checkpoint.

    Args:
        revision: branch, tag or commit of a hub name.
        dtype: of the weights; with `quantize` of those that stay, and of the arithmetic.
        quantize: "nf4" loads the language model's linear layers in 4 bits (QLoRA's frozen base, bitsandbytes).
        device: where it goes; None leaves it on the CPU, or, with `quantize`, takes the current GPU where there is one.
        max_pixels: larger images are scaled down (`mmpo.models.vlm_pixels`).
    Raises:
        ValueError: nothing to load there, weights that are missing, or a quantisation that cannot be done here.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = _place(path)
    options: dict[str, Any] = {} if quantize is None else _quantized(quantize, dtype, device)
    common = {"revision": revision, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(place, **common)
        model, said = AutoModelForImageTextToText.from_pretrained(
            place,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **common,
            **options,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"model.path {path}: no vision-language model of transformers with its processor can be loaded from "
            f"there: {reason}"
        ) from None
    missing = sorted(said["missing_keys"])
    if missing:  # transformers fills them with random numbers, and goes on
        raise ValueError(f"model.path {path}: {len(missing)} weights are missing, the first is {missing[0]}")
    if not hasattr(processor, "tokenizer"):
        raise ValueError(f"model.path {path}: what prepares its inputs has no tokenizer; is it a text-to-image model?")
    for module in model.modules():
        if hasattr(
            module, "support_avx512bf16_for_cpu"
        ):  # bitsandbytes: its packed kernel has no backward, and says no
            module.support_avx512bf16_for_cpu = (
                False  # word of it; a forward in eval mode would pack the weights for good
            )
    if max_pixels is not None:
        limit_pixels(processor, max_pixels)
    if device is not None and quantize is None:
        model.to(device)
    return Vlm(model.eval(), processor, path)


def stored_dtype(path: str, revision: str | None = None) -> torch.dtype:
    """The dtype that a checkpoint's weights are stored in, as its config says; float32 where it does not.

    Raises:
        ValueError: no model of transformers is there.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(_place(path), revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"model.path {path}: no config of a transformers model is found there: {reason}") from None
    said = getattr(config, "dtype", None)
    said = getattr(torch, said.removeprefix("torch."), None) if isinstance(said, str) else said
    return said if isinstance(said, torch.dtype) and said.is_floating_point else torch.float32


def _place(path: str) -> str:
    place = resolve(path)
    if not Path(place).exists() and (place.startswith((".", "/", "~")) or place.count("/") > 1):
        raise ValueError(f"model.path {path}: no such folder on this machine; correct it, or give a hub name")
    return place


def _quantized(kind: str, dtype: torch.dtype, device: str | torch.device | None) -> dict[str, Any]:
    if kind != "nf4":
        raise ValueError(f"model.quantize: expected nf4 for a vision-language model, got {kind}")
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        raise ValueError("model.quantize: needs bitsandbytes; pip install 'mmpo[quant]', or leave it out") from None
    from transformers import BitsAndBytesConfig

    from mmpo.models.vlm_parts import PROJECTOR_NAMES, VISION_NAMES

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            # small, and tower and head must be exact; patterns, since names alone match a layer's whole name or its end
            llm_int8_skip_modules=["lm_head", *(rf"(?:.*\.)?{name}" for name in (*VISION_NAMES, *PROJECTOR_NAMES))],
        ),
        "device_map": {"": str(device) if device is not None else "cuda" if torch.cuda.is_available() else "cpu"},
    }
