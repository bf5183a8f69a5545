"""MPS's weights from the file that `convert` made of the released checkpoint, under the released names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewards.exact_weights import count_layers, image_size, load_exactly, one_file, shape_of
from rewards.mps_cross import CrossModel, CrossSizes, rotary_angles
from rewards.mps_model import MpsParts
from rewards.weight_files import read_state_dict

FILE = "mps_overall.safetensors"
CLIP, CROSS = "model.", "cross_model."
FREQUENCIES = ".rotary_emb.inv_freq"
CLIP_H: Mapping[str, Mapping[str, Any]] = {
    "text": {"num_attention_heads": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
    "vision": {"num_attention_heads": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
}
"""What shapes do not tell of the released towers, LAION's CLIP-H; another tower's stands in the converted file."""
RENAMED = {
    ".0.fn.ff.0.": ".cross.ff_in.",
    ".0.fn.ff.2.": ".cross.ff_out.",
    ".0.fn.": ".cross.",
    ".1.fn.ff_out.1.": ".block.ff_out.",
    ".1.fn.fused_attn_ff_proj.": ".block.fused.",
    ".1.fn.": ".block.",
}


def load_mps(weights: str, *, revision: str | None = None, sha256: str | None = None) -> MpsParts:
    """The two towers and the cross model.

    Args:
        weights: a file, its folder, or OWNER/NAME/FILE on the hub.
        revision: on the hub.
        sha256: of the file, checked where given.
    Raises:
        ValueError: nothing there, a pickled module, or tensors that do not fit.
    """
    try:
        file = one_file(weights, revision, sha256, FILE)
        state = read_state_dict(file)
    except ValueError as error:
        raise ValueError(
            f"{error}; MPS was released as a pickled module, its README says where: make a file of its tensors with "
            "`python scripts/convert_mps.py MPS_overall_checkpoint.pth mps_overall.safetensors`"
        ) from None
    return mps_parts(state, towers_of(file), str(file))


def towers_of(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the file says of its towers; CLIP-H's where it says nothing."""
    if file.suffix != ".safetensors":
        return CLIP_H
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        said = (opened.metadata() or {}).get("towers")
    return json.loads(said) if said else CLIP_H


def mps_parts(state: Mapping[str, Tensor], towers: Mapping[str, Mapping[str, Any]], source: str) -> MpsParts:
    """The parts of a released state dict; sizes are read from its shapes.

    Raises:
        ValueError: keys or shapes that do not fit, by name.
    """
    from transformers import CLIPConfig, CLIPModel

    text, vision = _text_sizes(state, source), _vision_sizes(state, source)
    width = shape_of(state, f"{CLIP}text_projection.weight", source)[0]
    layers = count_layers(state, f"{CROSS}layers.")
    config = {"text_config": {**text, **towers["text"]}, "vision_config": {**vision, **towers["vision"]}}
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(projection_dim=width, **config))
        cross = CrossModel(_cross_sizes(state, layers, source))
    load_exactly(nn.ModuleDict({"model": clip, "cross_model": cross}), converted(state), source)
    return MpsParts(clip, cross, _angles(state, layers, clip.vision_model.embeddings.num_positions, source))


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under our names, without the rotary frequencies and old transformers' position numbers."""
    out = {}
    for key, tensor in state.items():
        if key.endswith((FREQUENCIES, ".embeddings.position_ids")):
            continue
        for old, new in RENAMED.items() if key.startswith(CROSS) else ():
            key = key.replace(old, new)
        out[key] = tensor
    return out


def _angles(state: Mapping[str, Tensor], layers: int, positions: int, source: str) -> Tensor:
    keys = [f"{CROSS}layers.{layer}.1.fn{FREQUENCIES}" for layer in range(layers)]
    for key in keys:
        shape_of(state, key, source)
    return torch.stack([rotary_angles(state[key], positions) for key in keys])


def _cross_sizes(state: Mapping[str, Tensor], layers: int, source: str) -> CrossSizes:
    inner, width = shape_of(state, f"{CROSS}layers.0.0.fn.to_q.weight", source)
    head = shape_of(state, f"{CROSS}layers.0.0.fn.to_kv.weight", source)[0] // 2
    hidden = shape_of(state, f"{CROSS}layers.0.0.fn.ff.2.weight", source)[1]
    return CrossSizes(width, layers, inner // head, head, hidden)


def _text_sizes(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    embeddings = f"{CLIP}text_model.embeddings."
    vocabulary, width = shape_of(state, f"{embeddings}token_embedding.weight", source)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "max_position_embeddings": shape_of(state, f"{embeddings}position_embedding.weight", source)[0],
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
        **_layers(state, f"{CLIP}text_model.", source),
    }


def _vision_sizes(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    embeddings = f"{CLIP}vision_model.embeddings."
    width, _, _, patch = shape_of(state, f"{embeddings}patch_embedding.weight", source)
    positions = shape_of(state, f"{embeddings}position_embedding.weight", source)[0]
    sizes = {"hidden_size": width, "patch_size": patch, "image_size": image_size(positions, patch)}
    return {**sizes, **_layers(state, f"{CLIP}vision_model.", source)}


def _layers(state: Mapping[str, Tensor], tower: str, source: str) -> dict[str, int]:
    return {
        "intermediate_size": shape_of(state, f"{tower}encoder.layers.0.mlp.fc1.weight", source)[0],
        "num_hidden_layers": count_layers(state, f"{tower}encoder.layers."),
    }
