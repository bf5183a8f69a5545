"""open_clip's weights as a transformers `CLIPModel`: the same function under other names, so one path serves both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rewards.exact_weights import load_exactly

_TOPS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_TOWERS = {
    "transformer.resblocks.": "text_model.encoder.layers.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
}
_PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "patch_dropout"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_WHOLE = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "custom_text"}


def architecture_of(named: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """An open_clip config (`embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`) by its name there, or as it is.

    A state dict does not tell its activation: OpenAI's weights need a name that ends in "-quickgelu".

    Raises:
        ValueError: unknown name, or a transformer that is not plain CLIP's.
    """
    if named is None:
        raise ValueError(
            "architecture: a state dict does not say what it is of; give open_clip's name of it, such as ViT-H-14 "
            "or ViT-L-14-quickgelu, or its config; rewards without this option take a hub name or folder of a "
            "transformers CLIP"
        )
    config: Any = named
    if isinstance(named, str):
        import open_clip

        config = open_clip.get_model_config(named)
        if config is None:
            from mmpo.suggest import nearest

            near = nearest(named, open_clip.list_models())
            hint = f"; did you mean '{near}'?" if near else ""
            raise ValueError(f"architecture: open_clip knows no '{named}'{hint} (open_clip.list_models() has them all)")
    if not isinstance(config, Mapping) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise ValueError("architecture: expected a name, or a config with embed_dim, vision_cfg and text_cfg")
    odd = [*(config.keys() - _WHOLE), *(config["vision_cfg"].keys() - _VISION), *(config["text_cfg"].keys() - _TEXT)]
    if odd or config.get("custom_text"):
        raise ValueError(
            f"architecture: {named if isinstance(named, str) else 'this config'} is not a plain CLIP "
            f"({', '.join(sorted(odd)) or 'custom_text'}); run it with backend: open_clip"
        )
    return config


def converted(state: Mapping[str, Tensor], architecture: Mapping[str, Any], source: str) -> Any:
    """A transformers `CLIPModel` of these weights, in their dtype.

    Args:
        state: of open_clip's `CLIP`; a leading "module." of a parallel training is left away.
        architecture: of `architecture_of`.
        source: the file, for messages.
    Raises:
        ValueError: names what is missing, unexpected, or of another shape.
    """
    from transformers import CLIPModel

    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    with torch.device("meta"):  # or a billion numbers are drawn for nothing
        model = CLIPModel(transformers_config(architecture))
    load_exactly(model, dict(_renamed(state)), source)
    return model


def transformers_config(architecture: Mapping[str, Any]) -> Any:
    """The `CLIPConfig` of an open_clip config."""
    from transformers import CLIPConfig

    vision, text = architecture["vision_cfg"], architecture["text_cfg"]
    shared = {
        "hidden_act": "quick_gelu" if architecture.get("quick_gelu") else "gelu",
        "projection_dim": architecture["embed_dim"],
    }
    return CLIPConfig(
        projection_dim=architecture["embed_dim"],
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision.get("image_size", 224),
            "patch_size": vision["patch_size"],
            **shared,
        },
        text_config={
            "vocab_size": text.get("vocab_size", 49408),
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text.get("context_length", 77),
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 0,
            **shared,
        },
    )


def _renamed(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as transformers has them; what is not known keeps its name."""
    for name, value in state.items():
        if name == "logit_scale":
            yield name, value.reshape(())
        elif name in _TRANSPOSED:
            yield _TRANSPOSED[name], value.T.contiguous()
        elif name in _TOPS:
            yield _TOPS[name], value
        elif name.rpartition(".")[0] in _TOPS:
            top, _, kind = name.rpartition(".")
            yield f"{_TOPS[top]}.{kind}", value
        else:
            yield from _in_layer(name, value)


def _in_layer(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    start = next((start for start in _TOWERS if name.startswith(start)), None)
    if start is None:
        yield name, value
        return
    number, _, rest = name.removeprefix(start).partition(".")
    layer = f"{_TOWERS[start]}{number}."
    part, _, kind = rest.rpartition(".")
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.rpartition("_")[2]
        for which, third in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
            yield f"{layer}self_attn.{which}.{kind}", third.contiguous()
    elif part in _PARTS:
        yield f"{layer}{_PARTS[part]}.{kind}", value
    else:
        yield name, value
