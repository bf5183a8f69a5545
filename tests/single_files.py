"""Writes a diffusers folder as a single file in the original (LDM) layout: the names of CompVis' modules.

The names are those of the original code (`openaimodel.py`, `model.py`), written down here independently of diffusers'
converter, which the tests then read the file with.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_single_file(folder: Path, file: Path) -> Path:
    """The weights of a Stable Diffusion 1.x folder under their original names."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    levels = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    attention = {".".join(name.split(".")[:2]) for name in unet if ".attentions." in name}
    tensors: dict[str, Tensor] = {}
    for name, tensor in unet.items():
        tensors["model.diffusion_model." + unet_name(name, layers, attention)] = tensor
    for name, tensor in vae.items():
        linear = ".attentions." in name and tensor.dim() == 2  # 1x1 convolutions there
        tensors["first_stage_model." + vae_name(name, levels)] = tensor[..., None, None] if linear else tensor
    for name, tensor in text.items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def unet_name(name: str, layers: int, attention: set[str]) -> str:
    """A UNet tensor's original name."""
    for ours, theirs in UNET_ENDS.items():
        if name.startswith(ours + "."):
            return name.replace(ours, theirs, 1)
    parts = name.split(".")
    if parts[0] == "mid_block":
        place = f"middle_block.{ {'resnets': 0, 'attentions': 1}[parts[1]] + 2 * int(parts[2]) }"
        return f"{place}.{inner(parts[1], parts[3:])}"
    side, block, kind, number = parts[0], int(parts[1]), parts[2], int(parts[3])
    if side == "down_blocks":
        first = block * (layers + 1) + 1
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{parts[-1]}"
        return f"input_blocks.{first + number}.{int(kind == 'attentions')}.{inner(kind, parts[4:])}"
    first = block * (layers + 1)
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.{1 + (f'up_blocks.{block}' in attention)}.conv.{parts[-1]}"
    return f"output_blocks.{first + number}.{int(kind == 'attentions')}.{inner(kind, parts[4:])}"


def inner(kind: str, parts: list[str]) -> str:
    """The rest of a name inside a resnet or an attention block."""
    return ".".join([RESNET[parts[0]], *parts[1:]] if kind == "resnets" else parts)


def vae_name(name: str, levels: int) -> str:
    """A VAE tensor's original name."""
    parts = name.split(".")
    if parts[0] in ("quant_conv", "post_quant_conv") or parts[1] in ("conv_in", "conv_out"):
        return name
    side = parts[0]
    if parts[1] == "conv_norm_out":
        return f"{side}.norm_out.{parts[-1]}"
    if parts[1] == "mid_block":
        rest = ".".join(parts[4:])
        if parts[2] == "resnets":
            return f"{side}.mid.block_{int(parts[3]) + 1}.{rest}".replace("conv_shortcut", "nin_shortcut")
        for ours, theirs in VAE_ATTENTION.items():
            if rest.startswith(ours + "."):
                return f"{side}.mid.attn_1.{theirs}.{parts[-1]}"
    level = int(parts[2]) if parts[1] == "down_blocks" else levels - 1 - int(parts[2])
    where = "down" if parts[1] == "down_blocks" else "up"
    if parts[3].endswith("samplers"):
        return f"{side}.{where}.{level}.{where}sample.conv.{parts[-1]}"
    return f"{side}.{where}.{level}.block.{'.'.join(parts[4:])}".replace("conv_shortcut", "nin_shortcut")
