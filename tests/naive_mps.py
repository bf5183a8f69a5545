"""MPS one sample at a time, as nested modules under the released names: what a released checkpoint pickles."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, silu, softmax
from transformers import CLIPConfig, CLIPModel

HEADS, HEAD, WIDTH = 4, 16, 96


class Norm(nn.Module):
    """A layer norm whose bias, a buffer, is part of the state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class Gate(nn.Module):
    """The first half times silu of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.kind, self.hook = gelu, torch.float16, partial(gelu, approximate="tanh")  # as pickles have them

    def forward(self, x: Tensor) -> Tensor:
        """To half the width."""
        half = x.shape[-1] // 2
        return x[..., :half] * silu(x[..., half:])


class Cross(nn.Module):
    """All of a word's heads share one key and one value; feed-forward beside the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm(WIDTH)
        self.context_norm = nn.Identity()
        self.to_q = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.to_kv = nn.Linear(WIDTH, 2 * HEAD, bias=False)
        self.to_out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)
        self.ff = nn.Sequential(
            nn.Linear(WIDTH, 8 * WIDTH, bias=False), Gate(), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        )

    def forward(self, x: Tensor, text: Tensor, shown: Tensor) -> Tensor:
        """[P, D] of image tokens; hidden words are taken out."""
        x = self.norm(x)
        both = self.to_kv(text[shown])
        key, value = both[:, :HEAD], both[:, HEAD:]
        queries = self.to_q(x)
        read = [softmax(q @ key.T / HEAD**0.5, dim=1) @ value for q in queries.split(HEAD, dim=1)]
        return self.to_out(torch.cat(read, dim=1)) + self.ff(x)


class Rotary(nn.Module):
    """Frequencies, part of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / 10000 ** (torch.arange(0, HEAD, 2).float() / HEAD))


class Block(nn.Module):
    """Self attention with rotary positions, written as complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm(WIDTH)
        self.rotary_emb = Rotary()
        self.fused_attn_ff_proj = nn.Linear(WIDTH, HEADS * HEAD + 2 * HEAD + 8 * WIDTH, bias=False)
        self.attn_out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)
        self.ff_out = nn.Sequential(Gate(), nn.Linear(4 * WIDTH, WIDTH, bias=False))
        self.register_buffer("pos_emb", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[P, D]."""
        self.pos_emb = torch.zeros(len(x), HEAD)  # the released code keeps one, too, outside the state
        fused = self.fused_attn_ff_proj(self.norm(x))
        queries, key = fused[:, : HEADS * HEAD], self.turn(fused[:, HEADS * HEAD :][:, :HEAD])
        value = fused[:, HEADS * HEAD + HEAD :][:, :HEAD]
        read = [softmax(self.turn(q) @ key.T / HEAD**0.5, dim=1) @ value for q in queries.split(HEAD, dim=1)]
        return self.attn_out(torch.cat(read, dim=1)) + self.ff_out(fused[:, HEADS * HEAD + 2 * HEAD :])

    def turn(self, x: Tensor) -> Tensor:
        """Components i and i + d/2 are one complex number, turned by position times frequency."""
        frequencies = self.rotary_emb.inv_freq
        angles = torch.arange(len(x)).to(frequencies.dtype)[:, None] * frequencies
        half = x.shape[1] // 2
        turned = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(x[:, :half]), angles.to(x.dtype))
        return torch.cat([turned.real, turned.imag], dim=1)


class Residual(nn.Module):
    """Adds what it reads."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        """fn(x) + x."""
        return self.fn(x, *rest) + x


class CrossModel(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([Residual(Cross()), Residual(Block())]) for _ in range(2))


class Mps(nn.Module):
    """A tiny MPS; one image, one prompt."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        text = {"hidden_size": 96, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
        vision = {"hidden_size": 40, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 5}
        vision |= {"image_size": 64, "patch_size": 16, "hidden_act": "gelu"}
        self.model = CLIPModel(CLIPConfig(projection_dim=WIDTH, text_config=text, vision_config=vision))
        self.cross_model = CrossModel()
        with torch.no_grad():
            self.model.text_model.embeddings.token_embedding.weight.mul_(30)  # so that words differ
            for weight in self.model.vision_model.parameters():
                if weight.ndim > 1:
                    weight.mul_(6)  # and pictures
            for weight in self.cross_model.parameters():
                if weight.ndim > 1:
                    weight.mul_(3)  # and what a picture reads matters
            self.model.logit_scale.fill_(4.6)
        self.eval()

    @torch.no_grad()
    def score(self, pixels: Tensor, ids: Sequence[int], condition: Sequence[int], threshold: float) -> float:
        """exp(scale) · cos(prompt, image), of normalised pixels [3, H, W] and token ids without padding."""
        clip, text, wanted = self.model, self.words(ids), self.words(condition)
        products = torch.tensor([max(float(word @ other) for other in wanted) for word in text])
        shown = products / products.max() > threshold
        x = clip.vision_model.embeddings(pixels[None])
        x = clip.visual_projection(clip.vision_model.encoder(clip.vision_model.pre_layrnorm(x)).last_hidden_state[0])
        for cross, block in self.cross_model.layers:
            x = block(cross(x, text, shown))
        end = text[len(ids) - 1]
        return float(clip.logit_scale.exp() * (x[0] @ end) / (x[0].norm() * end.norm()))

    def words(self, ids: Sequence[int]) -> Tensor:
        """[77, D] tokens of a text, padded with the end mark."""
        row = pad(torch.tensor(ids), (0, 77 - len(ids)), value=49407)
        return self.model.text_projection(self.model.text_model(input_ids=row[None]).last_hidden_state[0])


def pickle_as_released(model: nn.Module, file: Path) -> None:
    """Saves the module with its classes under the released code's modules, which are gone when it is read."""
    places = {
        "trainer": (),
        "trainer.models": (),
        "trainer.models.clip_model": (Mps,),
        "trainer.models.cross_modeling": (Norm, Gate, Cross, Rotary, Block, Residual, CrossModel),
    }
    before = {kind: kind.__module__ for kinds in places.values() for kind in kinds}
    try:
        for place, kinds in places.items():
            module = sys.modules[place] = types.ModuleType(place)
            for kind in kinds:
                kind.__module__ = place
                setattr(module, kind.__name__, kind)
        torch.save(model, file)
    finally:
        for place in places:
            sys.modules.pop(place, None)
        for kind, place in before.items():
            kind.__module__ = place
