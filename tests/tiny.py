"""Random tiny checkpoints and pairs, made in a second: what the tests train in place of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmpo.data.images import encode
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.records import Candidate, Group, Prompt, content_id

WORDS = ("a", "red", "blue", "cat", "dog", "on", "the", "moon")


def make_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single characters."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.<>()/"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24)


def make_sd(
    folder: Path,
    *,
    prediction_type: str = "epsilon",
    channels: tuple[int, int] = (16, 32),
    sample_size: int = 8,
    scheduler: str = "DDIMScheduler",
    seed: int = 0,
    first_block: str = "CrossAttnDownBlock2D",
) -> Path:
    """Saves a random `StableDiffusionPipeline` with these sizes and returns its folder."""
    import diffusers
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = make_tokenizer(folder.parent / f"{folder.name}-tokenizer")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=sample_size,
            block_out_channels=channels,
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=8,
            norm_num_groups=8,
            down_block_types=(first_block, "DownBlock2D"),
            up_block_types=("UpBlock2D", first_block.replace("Down", "Up")),
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            norm_num_groups=4,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            sample_size=sample_size * 2,
        )
    steps: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    }
    if scheduler in ("DDIMScheduler", "DDPMScheduler"):
        steps["clip_sample"] = False
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=getattr(diffusers, scheduler)(prediction_type=prediction_type, **steps),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def picture(seed: int, size: int = 16) -> bytes:
    """PNG bytes of a smooth random image."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return encode(small.resize((size, size), Image.Resampling.BILINEAR))


def make_groups(count: int, *, size: int = 16) -> list[Group]:
    """Random pairs over a few words."""
    rng = np.random.default_rng(5)
    groups = []
    for number in range(count):
        text = " ".join(rng.choice(WORDS, 4))
        images = [picture(2 * number, size), picture(2 * number + 1, size)]
        groups.append(Group(content_id(number), Prompt(text), [Candidate(image) for image in images], rank=[1, 2]))
    return groups


def make_pairs(folder: Path, count: int = 24, *, size: int = 16) -> Path:
    """A folder with one shard of canonical pair rows."""
    write_shard(folder, 0, [pair_row(group) for group in make_groups(count, size=size)], pair_schema())
    return folder


def recipe_tree(model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A small recipe as plain dictionaries; `changes` are "section__key" values."""
    tree: dict[str, Any] = {
        "model": {"path": str(model), "lora": {"rank": 4}},
        "data": {"path": str(data)},
        "method": {"loss": "dpo", "beta": 500},
        "optim": {"lr": 1e-3, "schedule": "constant"},
        "train": {"steps": 6, "batch_size": 4, "precision": "fp32", "checkpoint_every": 2},
        "evaluation": {"every": 3, "held_out_pairs": 4, "draws": 1, "previews": {"count": 0}},
        "output": str(output),
    }
    for name, value in changes.items():
        section, key = name.split("__")
        tree[section][key] = value
    return tree
