"""The tiny VLM's tower, before it speaks: each of its 16 patches must tell the object on its side, and the side.

Trained through the answers alone, colours come soon, shapes and places late; without the side, places stay a coin flip
for long. The readers see normalised features through noise, so that nothing is told faintly, which a Llama would find
late; they are thrown away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, layer_norm
from transformers import CLIPVisionModel

from mmpo.shapes.canvas import SIZE
from mmpo.shapes.grammar import COLOURS, PLACES, SHAPES, Scene
from mmpo.shapes.making.clip import pixels
from mmpo.shapes.making.fit import fit
from mmpo.shapes.making.vlm_data import Pictures
from mmpo.shapes.making.vlm_tokenizer import PATCH
from mmpo.shapes.prompts import scenes

STEPS = 1000
NOISE = 0.7  # on features of deviation 1
BATCH = 128
SIDE = SIZE // PATCH  # patches of a side
_PLACES = sum(PLACES.values(), ())
_SIZES = [len(COLOURS), len(SHAPES), len(_PLACES)]


def labels(scene: Scene) -> np.ndarray:
    """[16, 3]: for each patch, row by row, colour, shape and place of the object of its half of the picture."""
    number = np.arange(SIDE * SIDE)
    along = number // SIDE if scene.axis == "vertical" else number % SIDE
    items = [
        (COLOURS.index(item.colour), SHAPES.index(item.shape), _PLACES.index(place))
        for item, place in zip((scene.first, scene.second), PLACES[scene.axis], strict=True)
    ]
    return np.array(items)[(along >= SIDE // 2).astype(int)]


def train(
    tower: CLIPVisionModel, data: Pictures, folder: Path, *, steps: int = STEPS, seed: int = 0
) -> CLIPVisionModel:
    """Train `tower` on the pictures that show two objects, in `folder/sight`, resuming there; returns the average."""
    targets = torch.from_numpy(np.stack([labels(scene) for scene in scenes("train")]))
    whole, scene_of = torch.from_numpy(np.flatnonzero(data.objects == 2)), torch.from_numpy(data.scene)
    torch.manual_seed(10)
    model = nn.ModuleDict({"tower": tower, "readers": nn.Linear(tower.config.hidden_size, sum(_SIZES))})

    def loss_of(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        rows = whole[torch.randint(len(whole), (BATCH,), generator=generator)]
        seen = model["tower"](pixels(data.images[rows])).last_hidden_state[:, 1:]  # type: ignore[index]
        seen = layer_norm(seen, seen.shape[-1:])
        seen = seen + NOISE * torch.randn(seen.shape, generator=generator)
        read = model["readers"](seen).split(_SIZES, dim=-1)  # type: ignore[index]
        truth = targets[scene_of[rows]]
        return sum((cross_entropy(part.transpose(1, 2), truth[..., k]) for k, part in enumerate(read)), torch.zeros(()))

    average = fit(model, loss_of, folder / "sight", steps=steps, lr=1e-3, seed=seed, ema=0.99, every=100)
    return average["tower"]  # type: ignore[index]
