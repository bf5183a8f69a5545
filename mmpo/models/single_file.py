"""Single-file checkpoints (.safetensors, the original layout): what kind they are, and loading them by diffusers."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mmpo.models.quiet import quiet_diffusers

PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
V_MARK = "v_pred"  # an empty tensor by which tools mark a checkpoint that predicts v
_KEYS = {  # a key that only this kind has, and the configs that diffusers' own conversion goes with
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": "Stable Diffusion XL",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": "Stable Diffusion 2",
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": "Stable Diffusion 1",
}
DEFAULT_CONFIGS = {"Stable Diffusion 1": "stable-diffusion-v1-5/stable-diffusion-v1-5"}


def is_single_file(path: str) -> bool:
    """Whether a checkpoint path means one file."""
    return Path(path).suffix == ".safetensors" or Path(path).suffix in PICKLES


def kind_of(file: Path) -> str:
    """What a single file holds, by the names in its header.

    Raises:
        ValueError: a pickle, unreadable, a LoRA, or only a part of a pipeline.
    """
    if file.suffix in PICKLES:
        raise ValueError(
            f"model.path {file}: a pickled checkpoint can run code when it is read; convert it to .safetensors first"
        )
    if not file.is_file():
        raise ValueError(f"model.path {file}: no such file")
    try:
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"model.path {file}: not a readable safetensors file: {error}") from None
    for key, kind in _KEYS.items():
        if key in names:
            if not any(name.startswith(_VAE) for name in names):
                raise ValueError(f"model.path {file}: it holds no VAE; take the full file, or a diffusers folder")
            return kind
    if any("lora" in name for name in names):
        raise ValueError(f"model.path {file}: this is a LoRA; name the base there and the LoRA in model.lora.start")
    if any(name.startswith(_UNET) for name in names):
        raise ValueError(
            f"model.path {file}: it holds a denoiser but no text encoder that is known; give the whole checkpoint"
        )
    first = next(iter(sorted(names)), "nothing")
    raise ValueError(
        f"model.path {file}: not a whole checkpoint in the original layout (it begins with {first}); for a folder that "
        "diffusers saved, give the folder"
    )


def config_name(file: Path, config: str | None) -> str:
    """Folder or hub name of the configs that belong to a single file: the recipe's `model.config`, or by its kind.

    Raises:
        ValueError: as `kind_of`, or a kind whose configs must be named.
    """
    kind = kind_of(file)
    if config is not None:
        return config
    if kind not in DEFAULT_CONFIGS:
        raise ValueError(
            f"model.path {file}: a {kind} checkpoint; set model.config to a diffusers folder or hub name of "
            "that model, whose configs and tokenizer it uses"
        )
    return DEFAULT_CONFIGS[kind]


def says_v(file: Path) -> bool:
    """Whether the file is marked as one that predicts v."""
    with safe_open(file, framework="pt") as opened:
        return V_MARK in opened.keys()  # noqa: SIM118 (not a mapping)


def load_single_file(
    pipeline_class: Any,
    file: Path,
    configs: Path,
    *,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    skipped: Mapping[str, Any],
) -> Any:
    """The pipeline of a single file.

    Args:
        pipeline_class: of diffusers.
        configs: folder with the pipeline's configs; where it has no tokenizer, CLIP's own is used.
        dtype: of the denoiser and the text encoders.
        vae_dtype: of the VAE.
        skipped: components that are not loaded, as None.
    Raises:
        ValueError: tensors are missing or do not fit the configs.
    """
    from diffusers import AutoencoderKL

    parts: dict[str, Any] = dict(skipped)
    if not (configs / "tokenizer").is_dir():
        parts["tokenizer"] = clip_tokenizer()
    try:
        with quiet_diffusers():  # it warns of casting to the dtype that it is told
            vae = AutoencoderKL.from_single_file(str(file), config=str(configs), subfolder="vae", dtype=vae_dtype)
            pipeline = pipeline_class.from_single_file(
                str(file), config=str(configs), dtype=dtype, vae=vae, local_files_only=True, **parts
            )
    except (ValueError, RuntimeError, KeyError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        if "meta tensor" in reason:
            reason = "the file lacks tensors that they ask for"
        raise ValueError(
            f"model.path {file}: does not fit the configs of {configs} (model.config names others): {reason}"
        ) from None
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            empty = next((key for key, p in part.named_parameters() if p.is_meta), None)
            if empty:
                raise ValueError(f"model.path {file}: no weights for {name}.{empty}, which {configs} asks for")
    return pipeline


def clip_tokenizer() -> Any:
    """The tokenizer of Stable Diffusion 1.x, from the vocabulary that ships with open_clip: needs no network."""
    from open_clip.tokenizer import bytes_to_unicode, default_bpe
    from transformers import CLIPTokenizer

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as lines:
        merges = lines.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split()) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77)
