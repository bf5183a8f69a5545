"""Tiny random CLIPs, of transformers and of open_clip, and pictures in which a shift by one pixel shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
"""An open_clip config; one of gelu, as LAION's CLIP-H."""


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture of noise."""
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def make_clip(folder: Path, *, image_size: int = 224, patch: int = 32, words: int = 49408, seed: int = 0) -> Path:
    """Saves a tiny transformers CLIP with CLIP's vocabulary, and no tokenizer beside it, as PickScore's."""
    from transformers import CLIPConfig, CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = {**tower, "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1}
        text["pad_token_id"] = words - 1
        vision = {**tower, "image_size": image_size, "patch_size": patch}
        CLIPModel(CLIPConfig(projection_dim=32, text_config=text, vision_config=vision)).save_pretrained(folder)
    return folder


def open_clip_model(*, quick_gelu: bool = False, seed: int = 0) -> Any:
    """open_clip's own tiny CLIP; every weight random, so that none can stand for another unseen."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**ARCHITECTURE, quick_gelu=quick_gelu)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name == "logit_scale":
                    parameter.fill_(4.6052)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
