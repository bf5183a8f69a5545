"""Stage `unet`: epsilon-prediction on cached latents and cached caption embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mmpo.shapes.grammar import captions
from mmpo.shapes.making.data import pictures
from mmpo.shapes.making.fit import fit, save
from mmpo.shapes.making.text import WIDTH, tokenise
from mmpo.shapes.making.vae import to_tensor
from mmpo.shapes.prompts import scenes

NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
}
PICTURES = 40_000
EMPTY_RATE = 0.1  # share of empty captions, for guidance
LATE_RATE = 0.4  # share of steps drawn from the noisy part, where the layout is decided


class Data(NamedTuple):
    """`mean`, `deviation` [N, 4, 8, 8] of the scaled latents, `scene` [N], `text` [1 + 4·scenes, 16, 64]."""

    mean: torch.Tensor
    deviation: torch.Tensor
    scene: torch.Tensor
    text: torch.Tensor


def build() -> UNet2DConditionModel:
    """The untrained UNet: convolutions at 8x8, self- and cross-attention in all of 4x4."""
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,  # diffusers reads this as the number of heads here, as in Stable Diffusion 1.5
        norm_num_groups=8,
    )


@torch.no_grad()
def encode(
    vae: AutoencoderKL,
    tower: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    count: int,
    seed: int,
    defect_rate: float,
) -> Data:
    """Render, encode and embed the training set once, and keep it in `folder`."""
    path = folder / "unet" / f"data-{count}-{seed}-{defect_rate}.pt"
    if path.exists():
        return Data(**torch.load(path, weights_only=True))
    images, rows = pictures(count, seed, defect_rate)
    scale, means, deviations = vae.config["scaling_factor"], [], []
    for start in range(0, count, 256):
        posterior = vae.encode(to_tensor(images[start : start + 256])).latent_dist
        means.append(posterior.mean * scale)
        deviations.append(posterior.std * scale)
    texts = ["", *(text for scene in scenes("train") for text in captions(scene))]
    text = tower(tokenise(tokenizer, texts)).last_hidden_state
    data = Data(torch.cat(means), torch.cat(deviations), torch.from_numpy(rows), text)
    save(path, data._asdict())
    return data


def steps_of(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps [count]: uniform, with a share `LATE_RATE` from the noisier 60 % only."""
    share = torch.rand(count, generator=generator)
    late = torch.rand(count, generator=generator) < LATE_RATE
    return (torch.where(late, 0.4 + 0.6 * share, share) * 1000).long().clamp(max=999)


def train(
    data: Data,
    folder: Path,
    *,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    lr: float = 1e-3,
    every: int = 500,
    until: int | None = None,
    after_save: Callable[[int, torch.nn.Module], None] | None = None,
) -> UNet2DConditionModel:
    """Train to step `until` of `steps`; returns the average of the weights."""
    schedule = DDPMScheduler(**NOISE)

    def loss_of(model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(data.mean), (batch,), generator=generator)
        caption = 1 + 4 * data.scene[rows] + torch.randint(4, (batch,), generator=generator)
        caption[torch.rand(batch, generator=generator) < EMPTY_RATE] = 0
        shape = data.mean[rows].shape
        latents = data.mean[rows] + data.deviation[rows] * torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        timesteps = steps_of(batch, generator)
        noisy = schedule.add_noise(latents, noise, timesteps)
        return (model(noisy, timesteps, data.text[caption]).sample - noise).square().mean()

    average = fit(
        build(), loss_of, folder / "unet", steps=steps, until=until, lr=lr, seed=seed, ema=0.9995, every=every,
        after_save=after_save,
    )  # fmt: skip
    assert isinstance(average, UNet2DConditionModel)
    return average
