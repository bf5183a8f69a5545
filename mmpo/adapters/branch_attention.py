"""Attention for rows that hold one conversation and several answers to it, as an implementation of transformers'.

Whether a row is such a one is said by the attention mask, which is then no mask but integers: transformers hands a mask
of four dimensions to every layer as it is, also where gradient checkpointing runs a layer again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmpo.adapters.token_layout import Layout

NAME = "mmpo_branches"


def install(model: Any) -> None:
    """Makes the language model attend by branches where the mask asks for it, and as before where it does not.

    Raises:
        ValueError: the model attends in a way that branches would change.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    text = model.config.get_text_config()
    used = text._attn_implementation
    if used == NAME:
        return
    if used != "sdpa":
        raise ValueError(f"its attention is {used}, and branches are written for sdpa")
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(f"it has layers of {', '.join(sorted(kinds - {'full_attention'}))}")
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        raise ValueError("it attends in a sliding window")
    if getattr(text, "use_bidirectional_attention", None):
        raise ValueError("it attends both ways")
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    _set(model, NAME)
    if text._attn_implementation != NAME:
        raise ValueError("it does not take an attention of others")


def remove(model: Any) -> None:
    """Undoes `install`."""
    if model.config.get_text_config()._attn_implementation == NAME:
        _set(model, "sdpa")


def branch_mask(layout: Layout) -> Tensor:
    """[R, 1, 1, T + L] int32: each token's segment, then the places that are attended to again."""
    return torch.cat([layout.segments, layout.late.int()], dim=1)[:, None, None]


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa attention; of several answers behind one conversation, none sees another.

    The conversation and the first answer are plainly causal. Tokens of later answers are attended to once more with a
    mask, [R, L] of them and not [R, T].

    Args:
        query, key, value: [R, heads, T, width].
        attention_mask: as transformers makes it, or `branch_mask`.
    Returns:
        [R, T, heads, width], None.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is None or attention_mask.dtype != torch.int32:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    options.pop("is_causal", None)
    length = key.shape[2]
    segments = attention_mask[:, 0, 0, :length]
    late = attention_mask[:, 0, 0, length:].long()
    out, _ = sdpa_attention_forward(module, query, key, value, None, is_causal=True, **options)
    if late.shape[1]:
        asked = query.gather(2, late[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
        seen = _seen(segments, late)
        again, _ = sdpa_attention_forward(module, asked, key, value, seen, **options)
        out = out.scatter(1, late[:, :, None, None].expand(-1, -1, *out.shape[2:]), again)
    return out, None


def _seen(segments: Tensor, late: Tensor) -> Tensor:
    """[R, 1, L, T] bool: what the tokens at `late` see."""
    own = segments.gather(1, late)[:, :, None]
    before = torch.arange(segments.shape[1], device=late.device) <= late[:, :, None]
    return (before & ((segments[:, None] == 0) | (segments[:, None] == own)))[:, None]


def _set(model: Any, name: str) -> None:
    nested = "text_config" in getattr(model.config, "sub_configs", {})
    model.set_attn_implementation({"text_config": name} if nested else name)
