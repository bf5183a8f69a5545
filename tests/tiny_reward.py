"""A tiny CLIP with its tokenizer, and recipes that train it in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import clip_config, make_tokenizer


def make_clip(folder: Path, *, seed: int = 0, layers: int = 2) -> Path:
    """Saves a random transformers CLIP of 16-pixel images, with the characters as its tokens."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = make_tokenizer(folder.parent / f"{folder.name}-tokenizer")
    text = clip_config(tokenizer, layers).to_dict() | {"pad_token_id": tokenizer.eos_token_id}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPModel(CLIPConfig(projection_dim=16, text_config=text, vision_config=vision)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder


def reward_tree(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A small recipe as plain dictionaries; `changes` are "section__key" values, or of a key at the top."""
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {"path": str(data), "cache": str(output.parent / "cache")},
        "objective": "pickscore",
        "optim": {"lr": 3e-3, "schedule": "constant", "weight_decay": 0.0},
        "train": {"steps": 6, "batch_size": 4, "precision": "fp32", "checkpoint_every": 2, "report_to": []},
        "evaluation": {"every": 2, "held_out_pairs": 0},
        "output": str(output),
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            tree[section][key] = value
        else:
            tree[section] = value
    return tree
