"""ImageReward's formula in float64 with sums written out, on a random state dict under the released names."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, softmax

HEAD_DIM = 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cat", "dog", "on", "the", "##s", ",", "mat"]
IMAGE, TEXT = "blip.visual_encoder.", "blip.text_encoder."


def released_state(seed: int = 0, *, wide: int = 128, narrow: int = 192, small: float = 1.0) -> dict[str, Tensor]:
    """A tiny network under the names of the released file, with what the reward does not use.

    Args:
        wide, narrow: widths of the image and the text encoder.
        small: scale of the image encoder's embeddings; at 1e-3 the norm's epsilon decides.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int, scale: float = 0.1, middle: float = 0.0) -> None:
        state[name] = middle + scale * torch.randn(*shape, generator=generator)

    def linear(name: str, out: int, into: int) -> None:
        put(f"{name}.weight", out, into, scale=into**-0.5)
        put(f"{name}.bias", out)

    def norm(name: str, width: int) -> None:
        put(f"{name}.weight", width, middle=1.0)
        put(f"{name}.bias", width)

    put(f"{IMAGE}cls_token", 1, 1, wide, scale=small)
    put(f"{IMAGE}pos_embed", 1, 5, wide, scale=small)
    put(f"{IMAGE}patch_embed.proj.weight", wide, 3, 16, 16, scale=small / 28)
    put(f"{IMAGE}patch_embed.proj.bias", wide, scale=small / 10)
    for n in range(2):
        block = f"{IMAGE}blocks.{n}"
        for name, out, into in (
            ("attn.qkv", 3 * wide, wide),
            ("attn.proj", wide, wide),
            ("mlp.fc1", 96, wide),
            ("mlp.fc2", wide, 96),
        ):
            linear(f"{block}.{name}", out, into)
        norm(f"{block}.norm1", wide)
        norm(f"{block}.norm2", wide)
    norm(f"{IMAGE}norm", wide)
    put(f"{TEXT}embeddings.word_embeddings.weight", len(WORDS) + 2, narrow, scale=1.0)
    put(f"{TEXT}embeddings.position_embeddings.weight", 48, narrow, scale=0.3)
    state[f"{TEXT}embeddings.position_ids"] = torch.arange(48)[None]
    norm(f"{TEXT}embeddings.LayerNorm", narrow)
    for n in range(2):
        layer = f"{TEXT}encoder.layer.{n}"
        for kind, source in (("attention", narrow), ("crossattention", wide)):
            linear(f"{layer}.{kind}.self.query", narrow, narrow)
            linear(f"{layer}.{kind}.self.key", narrow, source)
            linear(f"{layer}.{kind}.self.value", narrow, source)
            linear(f"{layer}.{kind}.output.dense", narrow, narrow)
            norm(f"{layer}.{kind}.output.LayerNorm", narrow)
        linear(f"{layer}.intermediate.dense", 80, narrow)
        linear(f"{layer}.output.dense", narrow, 80)
        norm(f"{layer}.output.LayerNorm", narrow)
    for number, into, out in ((0, narrow, 32), (2, 32, 24), (4, 24, 16), (6, 16, 8), (7, 8, 1)):
        linear(f"mlp.layers.{number}", out, into)
    linear("blip.vision_proj", 16, wide)
    linear("blip.text_proj", 16, narrow)
    return state


def score(state: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> float:
    """The reward of one normalised image [3, H, W] and one prompt's token ids, without padding."""
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    hidden = text_states(state, ids, image_tokens(state, pixels.double()))[0]
    return (float(affine(state) @ torch.cat([hidden, hidden.new_ones(1)])) - 0.16717362830052426) / 1.0333394966054072


def affine(state: dict[str, Tensor]) -> Tensor:
    """The head of five linear layers as one row of weights and a bias."""
    weight, bias = torch.eye(state["mlp.layers.0.weight"].shape[1]).double(), torch.zeros(1).double()
    for number in (0, 2, 4, 6, 7):
        w, b = state[f"mlp.layers.{number}.weight"].double(), state[f"mlp.layers.{number}.bias"].double()
        weight, bias = w @ weight, (w @ bias if bias.shape[0] == w.shape[1] else 0.0) + b
    return torch.cat([weight[0], bias])


def image_tokens(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """[P, D]: pre-norm blocks, epsilon 1e-6."""
    patch, bias = state[f"{IMAGE}patch_embed.proj.weight"], state[f"{IMAGE}patch_embed.proj.bias"]
    rows = [
        (patch * pixels[None, :, y : y + 16, x : x + 16]).sum((1, 2, 3)) + bias
        for y in range(0, pixels.shape[1], 16)
        for x in range(0, pixels.shape[2], 16)
    ]
    x = torch.cat([state[f"{IMAGE}cls_token"][0], torch.stack(rows)]) + state[f"{IMAGE}pos_embed"][0]
    for n in range(2):
        block = f"{IMAGE}blocks.{n}"
        query, key, value = dense(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", x, 1e-6)).chunk(3, dim=1)
        x = x + dense(state, f"{block}.attn.proj", attend(query, key, value))
        inner = gelu(dense(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6)))
        x = x + dense(state, f"{block}.mlp.fc2", inner)
    return norm(state, f"{IMAGE}norm", x, 1e-6)


def text_states(state: dict[str, Tensor], ids: list[int], image: Tensor) -> Tensor:
    """[L, D]: post-norm BERT layers that read the image after themselves, epsilon 1e-12."""
    words, places = (state[f"{TEXT}embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    x = norm(state, f"{TEXT}embeddings.LayerNorm", words[ids] + places[: len(ids)], 1e-12)
    for n in range(2):
        layer = f"{TEXT}encoder.layer.{n}"
        for kind, source in (("attention", None), ("crossattention", image)):
            read = x if source is None else source
            query = dense(state, f"{layer}.{kind}.self.query", x)
            key, value = (dense(state, f"{layer}.{kind}.self.{part}", read) for part in ("key", "value"))
            out = dense(state, f"{layer}.{kind}.output.dense", attend(query, key, value))
            x = norm(state, f"{layer}.{kind}.output.LayerNorm", x + out, 1e-12)
        out = dense(state, f"{layer}.output.dense", gelu(dense(state, f"{layer}.intermediate.dense", x)))
        x = norm(state, f"{layer}.output.LayerNorm", x + out, 1e-12)
    return x


def dense(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A linear layer."""
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    """A layer norm."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention head by head."""
    heads = []
    for start in range(0, query.shape[1], HEAD_DIM):
        q, k, v = (part[:, start : start + HEAD_DIM] for part in (query, key, value))
        heads.append(softmax(q @ k.T / HEAD_DIM**0.5, dim=1) @ v)
    return torch.cat(heads, dim=1)
