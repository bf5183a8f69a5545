"""The tiny CLIP, first stage: a contrast of rendered pictures and captions with near misses on both sides.

A batch holds scenes and, for each, a scene that differs in one thing, so that every picture meets captions, and every
caption pictures, that are almost right; and a spoilt picture of each scene, which must fall below the clean one under
their caption. Linear readers (place, colour, shape of both objects; the defect) help the picture tower to see, and
are thrown away. The second stage, preferences between own samples, is `mmpo train-reward`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from mmpo.shapes.canvas import SIZE
from mmpo.shapes.checkpoints import checkpoint_path
from mmpo.shapes.defects import DEFECTS
from mmpo.shapes.making.clip_data import caption_rows, draw, neighbours, pool
from mmpo.shapes.making.fit import fit
from mmpo.shapes.making.text import SIZES, examples, tokenise
from mmpo.shapes.prompts import scenes

WIDTH, LAYERS, PATCH, PROJECTION = 128, 4, 4, 64
SCENES = 32  # of a batch, and as many neighbours
VARIANTS = 40
STEPS = 1500
READER_WEIGHT = 0.5


def build(tower: CLIPTextModel) -> CLIPModel:
    """The CLIP with an untrained picture tower and, as its text tower, the one of `sd`."""
    torch.manual_seed(7)
    text = {
        **{
            name: value
            for name, value in tower.config.to_dict().items()
            if name not in ("_name_or_path", "architectures")
        },
        "projection_dim": PROJECTION,
    }
    vision = {
        "projection_dim": PROJECTION,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTION))
    model.text_model.load_state_dict(tower.state_dict())
    return model


def features(output: Any) -> torch.Tensor:
    """Unit vectors [N, 64] of a picture's or text's features; transformers 5 wraps them."""
    return normalize(getattr(output, "pooler_output", output), dim=-1)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 32, 32, 3] -> [N, 3, 32, 32] in [-1, 1], as the shipped processor makes them."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def _readers() -> nn.Module:
    return nn.Linear(PROJECTION, 2 * sum(SIZES) + len(DEFECTS) + 1)


def _reading_loss(read: torch.Tensor, answers: torch.Tensor, defect: torch.Tensor) -> torch.Tensor:
    """Mean cross entropies of what linear readers say.

    Args:
        read: [2N, classes], the clean pictures first.
        answers: [N, 2 objects, 3 attributes].
        defect: [N] of the spoilt pictures.
    """
    count = len(answers)
    objects, kind = read.split([2 * sum(SIZES), len(DEFECTS) + 1], dim=-1)
    said = objects[:count].unflatten(1, (2, -1)).split(SIZES, dim=-1)
    losses = [cross_entropy(part.transpose(1, 2), answers[..., k]) for k, part in enumerate(said)]
    truth = torch.cat([torch.full((count,), len(DEFECTS)), defect])
    return torch.stack([*losses, cross_entropy(kind, truth)]).sum()


def contrast(
    scale: torch.Tensor, clean: torch.Tensor, spoilt: torch.Tensor, texts: torch.Tensor, scene: torch.Tensor
) -> torch.Tensor:
    """Contrastive loss in both directions, with spoilt pictures among the wrong answers to a caption.

    Args:
        scale: exp(logit_scale).
        clean, spoilt, texts: [N, D] unit vectors of a scene's two pictures and its caption.
        scene: [N]; entries of one scene do not count against each other.
    """
    count = len(scene)
    same = (scene[:, None] == scene[None, :]) & ~torch.eye(count, dtype=torch.bool)
    hidden = torch.zeros(count, count).masked_fill(same, float("-inf"))
    logits = scale * texts @ clean.T + hidden
    against = scale * texts @ spoilt.T
    target = torch.arange(count)
    to_picture = cross_entropy(torch.cat([logits, against], dim=1), target)
    return to_picture + cross_entropy(logits.T, target)


def train(folder: Path, *, steps: int, seed: int = 0, lr: float = 1e-3) -> CLIPModel:
    """Train in `folder/clip`, resuming there; returns the average of the weights."""
    sd = checkpoint_path("sd")
    vae = AutoencoderKL.from_pretrained(sd / "vae").eval().requires_grad_(False)
    data = pool(vae, folder, variants=VARIANTS, seed=11)
    tokenizer = CLIPTokenizer.from_pretrained(sd / "tokenizer")
    ids = tokenise(tokenizer, caption_rows(scenes("train")))
    answers = examples(tokenizer, "train")[1][1::4]
    near = neighbours()
    model = nn.ModuleDict({"clip": build(CLIPTextModel.from_pretrained(sd / "text_encoder")), "readers": _readers()})

    def loss_of(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        rows = draw(data, near, SCENES, generator)
        images = torch.cat([data.clean[rows.scene, rows.clean], data.spoilt[rows.scene, rows.spoilt]])
        pictures = features(model["clip"].get_image_features(pixels(images)))  # type: ignore[index]
        texts = features(model["clip"].get_text_features(ids[4 * rows.scene + rows.caption]))  # type: ignore[index]
        clean, spoilt = pictures.chunk(2)
        scale = model["clip"].logit_scale.clamp(max=4.6052).exp()  # type: ignore[index]
        read = model["readers"](pictures * PROJECTION**0.5)  # type: ignore[index]
        reading = _reading_loss(read, answers[rows.scene], data.defect[rows.scene, rows.spoilt])
        return contrast(scale, clean, spoilt, texts, rows.scene) + READER_WEIGHT * reading

    average = fit(model, loss_of, folder / "clip", steps=steps, lr=lr, seed=seed, ema=0.995, every=100)
    return average["clip"]  # type: ignore[index]
