"""What the tiny CLIP is shown: each train scene many times, clean and spoilt, some of it as soft as samples are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL

from mmpo.shapes.canvas import SIZE
from mmpo.shapes.corruption import CHANGES, corrupted
from mmpo.shapes.defects import DEFECTS
from mmpo.shapes.grammar import Scene, captions
from mmpo.shapes.making.fit import save
from mmpo.shapes.making.vae import to_tensor
from mmpo.shapes.prompts import scenes
from mmpo.shapes.render import render

KEPT = 0.3  # share of pictures that stay as rendered; the others went through the autoencoder
NOISE = 0.3  # the most noise on their latents, in the denoiser's scale


class Pool(NamedTuple):
    """`clean` and `spoilt` [S, V, 32, 32, 3] uint8: V pictures of each train scene; `defect` [S, V] of the spoilt."""

    clean: torch.Tensor
    spoilt: torch.Tensor
    defect: torch.Tensor


@torch.no_grad()
def soften(vae: AutoencoderKL, images: np.ndarray, seed: int) -> np.ndarray:
    """Pictures [N, 32, 32, 3] decoded again from their latents, with up to `NOISE` added; a share of them unchanged."""
    generator = torch.Generator().manual_seed(seed)
    images, factor = images.copy(), vae.config["scaling_factor"]
    changed = torch.rand(len(images), generator=generator).numpy() >= KEPT
    for rows in np.array_split(np.flatnonzero(changed), max(1, int(changed.sum()) // 256)):
        latents = vae.encode(to_tensor(images[rows])).latent_dist.mean
        amount = NOISE * torch.rand(len(rows), 1, 1, 1, generator=generator)
        latents = latents + amount * torch.randn(latents.shape, generator=generator) / factor
        pixels = (vae.decode(latents).sample.clamp(-1, 1) + 1) * 127.5
        images[rows] = pixels.round().byte().permute(0, 2, 3, 1).numpy()
    return images


def pool(vae: AutoencoderKL, folder: Path, *, variants: int, seed: int) -> Pool:
    """Render and soften the pictures of all train scenes once, and keep them in `folder/pool`.

    Args:
        variants: clean pictures of each scene, and spoilt ones.
        seed: of jitter, defects and noise.
    """
    path = folder / "pool" / f"{variants}-{seed}.pt"
    if path.exists():
        return Pool(**torch.load(path, weights_only=True))
    train, rng = scenes("train"), random.Random(f"clip/{seed}")
    shape = (len(train), variants, SIZE, SIZE, 3)
    clean, spoilt = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    defect = np.empty(shape[:2], np.int64)
    for row, scene in enumerate(train):
        for column in range(variants):
            number = seed * 10_000_000 + 2 * column
            clean[row, column] = np.asarray(render(scene, number))
            defect[row, column] = kind = rng.randrange(len(DEFECTS))
            spoilt[row, column] = np.asarray(render(scene, number + 1, defect=DEFECTS[kind]))
    softened = [
        torch.from_numpy(soften(vae, part.reshape(-1, *shape[2:]), seed + place).reshape(shape))
        for place, part in enumerate((clean, spoilt))
    ]
    data = Pool(softened[0], softened[1], torch.from_numpy(defect))
    save(path, data._asdict())
    return data


def neighbours() -> list[list[int]]:
    """Per train scene, the rows of the train scenes that differ from it in one thing; at least one each."""
    train = scenes("train")
    row_of = {scene.key: row for row, scene in enumerate(train)}
    found: list[list[int]] = []
    for scene in train:
        rng = random.Random(f"neighbours/{scene.key}")
        changed = [corrupted(scene, rng, change) for change in CHANGES for _ in range(24)]
        near = sorted({row_of[other.key] for other in changed if other.key in row_of})
        assert near, scene.key
        found.append(near)
    return found


def caption_rows(train: list[Scene]) -> list[str]:
    """Four captions of each scene; row 4 s + k is the k-th caption of scene s."""
    return [text for scene in train for text in captions(scene)]


class Rows(NamedTuple):
    """A batch's scenes [N], and for each the column of its clean and its spoilt picture and of its caption, [N]."""

    scene: torch.Tensor
    clean: torch.Tensor
    spoilt: torch.Tensor
    caption: torch.Tensor


def draw(data: Pool, near: list[list[int]], count: int, generator: torch.Generator) -> Rows:
    """`count` scenes and a neighbour of each."""
    scene = torch.randint(len(near), (count,), generator=generator)
    picks = torch.rand(count, generator=generator).tolist()
    beside = [near[row][int(pick * len(near[row]))] for row, pick in zip(scene.tolist(), picks, strict=True)]
    scene = torch.cat([scene, torch.tensor(beside)])
    variants = data.clean.shape[1]
    columns = torch.randint(variants, (2, len(scene)), generator=generator)
    return Rows(scene, columns[0], columns[1], torch.randint(4, (len(scene),), generator=generator))
