"""The parts of the training script that are easy to get wrong: resuming, the latents' normalisation, the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmpo.shapes.making import export, fit, unet, vae
from mmpo.shapes.making.data import pictures


def _loss(model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
    return (model(torch.randn(4, 3, generator=generator)) - 1).square().mean()


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def test_a_stopped_stage_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = fit.fit(_model(), _loss, tmp_path / "whole", steps=7, lr=0.1, seed=5, every=3)
    fit.fit(_model(), _loss, tmp_path / "parts", steps=7, lr=0.1, seed=5, every=3, until=4)
    parts = fit.fit(_model(), _loss, tmp_path / "parts", steps=7, lr=0.1, seed=5, every=3)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), parts.parameters(), strict=True))
    saves = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert [save["step"] for save in saves] == [7, 7]
    assert all(torch.equal(saves[0]["model"][name], saves[1]["model"][name]) for name in saves[0]["model"])


@torch.no_grad()
def test_normalising_latents_changes_no_picture() -> None:
    model = vae.build().eval()
    images = vae.to_tensor(pictures(8, seed=9, defect_rate=0.0).images)
    before = model.decode(model.encode(images).latent_dist.mean).sample
    noise = model.decode(model.encode(images).latent_dist.sample(torch.Generator().manual_seed(0))).sample
    export.normalise(model, count=64)
    after = model.decode(model.encode(images).latent_dist.mean).sample
    again = model.decode(model.encode(images).latent_dist.sample(torch.Generator().manual_seed(0))).sample
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again, noise, rtol=1e-3, atol=1e-4)
    seen = vae.to_tensor(pictures(64, seed=2, defect_rate=0.5).images)
    latents = model.encode(seen).latent_dist.mean * model.config.scaling_factor
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)


def test_the_training_set_is_seeded_and_takes_scenes_in_turn() -> None:
    one, two = (pictures(700, seed=4, defect_rate=0.5) for _ in range(2))
    assert (one.images == two.images).all()
    assert one.scene[:3].tolist() == [0, 1, 2]
    assert one.scene[679] == 0
    assert (one.images != pictures(700, seed=5, defect_rate=0.5).images).any()


def test_timesteps_favour_the_noisy_part() -> None:
    timesteps = unet.steps_of(20_000, torch.Generator().manual_seed(0))
    assert (int(timesteps.min()), int(timesteps.max())) == (0, 999)
    # Uniform over 60 % of the draws, from 400 on for the rest: .6 * .6 + .4 lie there.
    assert (timesteps >= 400).float().mean() == pytest.approx(0.76, abs=0.02)
