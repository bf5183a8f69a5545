"""ImageReward's released state dict as one of `BlipReward`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rewards.blip_reward_model import BlipReward, BlipSizes
from rewards.exact_weights import count_layers, image_size, load_exactly, shape_of

HEAD_DIM = 64  # of every BLIP's attention, image and text
IMAGE, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers."
UNUSED = ("blip.vision_proj.", "blip.text_proj.")  # of BLIP's contrastive loss; the reward does not look at them
RENAMED = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
    "norm.": "post_layernorm.",
}  # how keys of the image encoder begin
RENAMED_INSIDE = {".attn.proj.": ".self_attn.projection.", ".attn.": ".self_attn.", ".norm": ".layer_norm"}


def blip_reward(state: Mapping[str, Tensor], source: str) -> BlipReward:
    """The network of ImageReward's released state dict; its sizes are read from the shapes.

    Args:
        source: the file, for messages.
    Raises:
        ValueError: keys or shapes that do not fit, by name.
    """
    sizes = blip_sizes(state, source)
    with torch.device("meta"):
        model = BlipReward(sizes)
    load_exactly(model, converted(state), source)
    return model


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under `BlipReward`'s names, without the contrastive projections; a key of neither kind keeps its name."""
    layers = sorted({int(key[len(HEAD) :].partition(".")[0]) for key in state if key.startswith(HEAD)})
    out = {}
    for key, tensor in state.items():
        if key.startswith(UNUSED) or key == f"{TEXT}embeddings.position_ids":
            continue
        if key.startswith(IMAGE):
            out["vision." + _image_key(key[len(IMAGE) :])] = tensor
        elif key.startswith(TEXT):
            out["text." + key[len(TEXT) :]] = tensor
        elif key.startswith(HEAD):
            number, _, rest = key[len(HEAD) :].partition(".")
            out[f"head.{layers.index(int(number))}.{rest}"] = tensor  # released with gaps, where dropout stood
        else:
            out[key] = tensor
    return out


def blip_sizes(state: Mapping[str, Tensor], source: str) -> BlipSizes:
    """Sizes that a released state dict tells; heads are 64 wide in every BLIP."""

    def shape(key: str) -> torch.Size:
        return shape_of(state, key, source)

    positions, width = shape(f"{IMAGE}pos_embed")[1:]
    patch = shape(f"{IMAGE}patch_embed.proj.weight")[-1]
    vocabulary, text_width = shape(f"{TEXT}embeddings.word_embeddings.weight")
    if width % HEAD_DIM or text_width % HEAD_DIM:
        raise ValueError(f"weights {source}: widths {width} and {text_width} are no multiples of {HEAD_DIM}, a head")
    vision = {
        "hidden_size": width,
        "intermediate_size": shape(f"{IMAGE}blocks.0.mlp.fc1.weight")[0],
        "num_hidden_layers": count_layers(state, f"{IMAGE}blocks."),
        "num_attention_heads": width // HEAD_DIM,
        "image_size": image_size(positions, patch),
        "patch_size": patch,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": text_width,
        "encoder_hidden_size": shape(f"{TEXT}encoder.layer.0.crossattention.self.key.weight")[1],
        "intermediate_size": shape(f"{TEXT}encoder.layer.0.intermediate.dense.weight")[0],
        "num_hidden_layers": count_layers(state, f"{TEXT}encoder.layer."),
        "num_attention_heads": text_width // HEAD_DIM,
        "max_position_embeddings": shape(f"{TEXT}embeddings.position_embeddings.weight")[0],
    }
    layers = sorted(int(key[len(HEAD) :].split(".")[0]) for key in state if key.startswith(HEAD) and "weight" in key)
    shapes = [shape(f"{HEAD}{number}.weight") for number in layers]
    if not shapes:
        raise ValueError(f"weights {source}: missing {HEAD}0.weight, the head; is it BLIP without ImageReward's?")
    return BlipSizes(vision, text, (text_width, *(after for after, _ in shapes)))


def _image_key(key: str) -> str:
    for old, new in RENAMED.items():
        if key.startswith(old):
            key = new + key[len(old) :]
            break
    for old, new in RENAMED_INSIDE.items():
        if key.startswith("encoder."):
            key = key.replace(old, new)
    return key
