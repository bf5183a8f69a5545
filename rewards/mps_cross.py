"""MPS's cross model: image tokens read the prompt's, then themselves, a few times over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu


@dataclass(frozen=True)
class CrossSizes:
    """Sizes of the cross model; as released 1024, 4, 16, 64, 4096."""

    width: int = 1024
    layers: int = 4
    heads: int = 16
    head: int = 64
    inner: int = 4096


class CrossModel(nn.Module):
    """Layers of a cross attention and a transformer block; see `CrossLayer`."""

    def __init__(self, sizes: CrossSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossLayer(sizes) for _ in range(sizes.layers))

    def forward(self, image: Tensor, text: Tensor, mask: Tensor, angles: Tensor) -> Tensor:
        """[N, P, D] image tokens that have read the prompts.

        Args:
            image: [N, P, D].
            text: [N, T, D].
            mask: [N, T], added to the logits of the cross attention: 0 or −inf.
            angles: [layers, P, head] rotary angles, float32.
        """
        for layer, turned in zip(self.layers, angles, strict=True):
            image = layer(image, text, mask, turned)
        return image


class CrossLayer(nn.Module):
    """x + cross(x, text) + ff(x), then the same with a rotary self attention; both attentions and feed-forwards are
    parallel, read the same normalised x, and all heads share one key and one value (PaLM's layout).
    """

    def __init__(self, sizes: CrossSizes) -> None:
        super().__init__()
        self.cross, self.block = CrossAttention(sizes), ParallelBlock(sizes)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor, angles: Tensor) -> Tensor:
        """See `CrossModel.forward`, of one layer."""
        image = image + self.cross(image, text, mask)
        return image + self.block(image, angles)


class CrossAttention(nn.Module):
    """Attention of image tokens to text tokens, which are not normalised, and a SwiGLU beside it."""

    def __init__(self, sizes: CrossSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.norm = nn.LayerNorm(sizes.width)
        self.to_q = nn.Linear(sizes.width, sizes.heads * sizes.head, bias=False)
        self.to_kv = nn.Linear(sizes.width, 2 * sizes.head, bias=False)
        self.to_out = nn.Linear(sizes.heads * sizes.head, sizes.width, bias=False)
        self.ff_in = nn.Linear(sizes.width, 2 * sizes.inner, bias=False)
        self.ff_out = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """[N, P, D], without the residual."""
        image = self.norm(image)
        key, value = self.to_kv(text).chunk(2, dim=-1)
        read = attention(split_heads(self.to_q(image), self.heads), key, value, mask[:, None, None].to(image.dtype))
        return self.to_out(read) + self.ff_out(swiglu(self.ff_in(image)))


class ParallelBlock(nn.Module):
    """Rotary self attention and a SwiGLU beside it, from one projection."""

    def __init__(self, sizes: CrossSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.parts = [sizes.heads * sizes.head, sizes.head, sizes.head, 2 * sizes.inner]
        self.norm = nn.LayerNorm(sizes.width)
        self.fused = nn.Linear(sizes.width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(sizes.heads * sizes.head, sizes.width, bias=False)
        self.ff_out = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, image: Tensor, angles: Tensor) -> Tensor:
        """[N, P, D], without the residual."""
        query, key, value, inner = self.fused(self.norm(image)).split(self.parts, dim=-1)
        query, key = rotated(split_heads(query, self.heads), angles), rotated(key, angles)
        return self.attn_out(attention(query, key, value)) + self.ff_out(swiglu(inner))


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """[N, P, H·d] of queries [N, H, P, d] over one key and one value [N, T, d] that all heads share."""
    shared = (query.shape[0], query.shape[1], key.shape[1], key.shape[2])
    key, value = key[:, None].expand(shared), value[:, None].expand(shared)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, P, H·d] as [N, H, P, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def swiglu(x: Tensor) -> Tensor:
    """First half times silu of the second."""
    value, gate = x.chunk(2, dim=-1)
    return silu(gate) * value


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """x turned by its position's angles [P, d]: component i with i + d/2, both by the same angle."""
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos().to(x.dtype) + torch.cat((-second, first), dim=-1) * angles.sin().to(x.dtype)


def rotary_angles(frequencies: Tensor, positions: int) -> Tensor:
    """[positions, d] angles position · frequency, float32, of d/2 frequencies.

    The product is rounded to the frequencies' dtype: released float16 frequencies were trained with angles that float16
    rounds, by up to 1/16 where they are above 128.
    """
    numbers = torch.arange(positions, dtype=frequencies.dtype, device=frequencies.device)
    return (numbers[:, None] * frequencies).float().repeat(1, 2)
