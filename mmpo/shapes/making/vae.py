"""Stage `vae`: 32x32 pictures to 8x8x4 latents and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from mmpo.shapes.making.data import pictures
from mmpo.shapes.making.fit import fit

KL_WEIGHT = 3e-4


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def build() -> AutoencoderKL:
    """The untrained autoencoder, 0.41 M parameters."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def train(folder: Path, *, steps: int, seed: int = 0, batch: int = 32, lr: float = 1.5e-3) -> AutoencoderKL:
    """Train on clean and spoilt pictures: L1 + 2 MSE + a small KL. Returns the average of the weights."""
    images = pictures(30_000, seed=1, defect_rate=0.5).images

    def loss_of(model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
        assert isinstance(model, AutoencoderKL)
        rows = torch.randint(len(images), (batch,), generator=generator).numpy()
        target = to_tensor(images[rows]).contiguous(memory_format=torch.channels_last)
        posterior = model.encode(target).latent_dist
        error = model.decode(posterior.sample(generator)).sample - target
        return error.abs().mean() + 2 * error.square().mean() + KL_WEIGHT * posterior.kl().mean() / 256

    model = build().to(memory_format=torch.channels_last)
    return fit(model, loss_of, folder / "vae", steps=steps, lr=lr, seed=seed, ema=0.998)
