"""Predictions of noised images: against diffusers' schedulers and pipelines, and what they draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from mmpo.adapters.clean_prediction import CleanPrediction
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline
from rewards.predicted_images import NoiseDraw, PredictedImages

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_clean_latent_is_what_ddim_takes_it_to_be(kind: str) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, **BETAS)
    scheduler.set_timesteps(1000)
    schedule = CleanPrediction.from_config(scheduler.config)
    times = torch.tensor([0, 1, 251, 999])
    clean, noise, prediction = torch.randn(3, 4, 4, 8, 8, dtype=torch.float64)
    noisy = schedule.noisy(clean, noise, times)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, times), rtol=1e-5, atol=1e-5)
    found = schedule.clean(prediction, noisy, times)
    for row, t in enumerate(times.tolist()):
        expected = scheduler.step(prediction[row], t, noisy[row]).pred_original_sample
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_a_right_prediction_gives_the_clean_latent_back(kind: str) -> None:
    schedule = CleanPrediction.from_config(FLOW if kind == "flow" else {"prediction_type": kind, **BETAS})
    times = torch.tensor([0, 1, 500, 999])
    clean, noise = torch.randn(2, 4, 4, 8, 8, dtype=torch.float64)
    signal, sigma = (values[times].view(-1, 1, 1, 1) for values in (schedule.signal, schedule.sigma))
    right = {"epsilon": noise, "v_prediction": signal * noise - sigma * clean, "flow": noise - clean}[kind]
    found = schedule.clean(right, schedule.noisy(clean, noise, times), times)
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-9)
    if kind == "flow":
        torch.testing.assert_close(schedule.sigma, torch.arange(1000, dtype=torch.float64) / 1000)


def test_guidance_is_one_forward_of_the_empty_prompt_and_the_prompt() -> None:
    schedule = CleanPrediction.from_config(BETAS)
    calls: list[tuple[int, list[float]]] = []

    def model(x: Tensor, t: Tensor, condition: Any) -> Tensor:
        calls.append((len(x), t.tolist()))
        return condition["prompt_embeds"][:, None, None, :1] * torch.ones_like(x)

    noisy, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    said, empty = {"prompt_embeds": torch.tensor([[5.0], [7.0]])}, {"prompt_embeds": torch.tensor([[1.0], [1.0]])}
    found = schedule.guided(model, noisy, times, said, empty, 2.5)
    assert calls == [(4, [3, 700, 3, 700])]
    guided = torch.tensor([1 + 2.5 * 4, 1 + 2.5 * 6]).view(2, 1, 1, 1).expand_as(noisy)
    torch.testing.assert_close(found, schedule.clean(guided, noisy, times))
    calls.clear()
    schedule.guided(model, noisy, times, said, empty, 1)
    assert calls == [(2, [3, 700])]


def test_schedules_that_are_not_supported() -> None:
    with pytest.raises(ValueError, match="predicts 'sample'; supported are"):
        CleanPrediction.from_config({"prediction_type": "sample"})
    with pytest.raises(ValueError, match="EDMEulerScheduler"):
        CleanPrediction.from_config({"_class_name": "EDMEulerScheduler"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each family."""
    place = tmp_path_factory.mktemp("families")
    return {name: make(place / name) for name, make in tiny.MAKERS.items()}


def predictor(folder: Path, **options: Any) -> tuple[Any, PredictedImages]:
    """A pipeline, and predictions by it at guidance 5."""
    config = read_config(str(folder))
    pipeline = load_pipeline(config, dtype=torch.float32)
    return pipeline, PredictedImages(pipeline, config, **{"guidance": 5.0, "resolution": 16, **options})


def test_a_prediction_is_what_the_pipelines_parts_make_of_it(folders: dict[str, Path]) -> None:
    """One image at a time, with two calls of the UNet, as SPO's training does it."""
    pipeline, predicted = predictor(folders["sd"])
    images = torch.randint(0, 256, (2, 2, 3, 16, 16), dtype=torch.uint8)
    prompts, draw = ["a red cat", "a dog"], predicted.draw(["x", "y"], [0, 3], 2)
    found = predicted(images, prompts, draw)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(1000)
    scale = pipeline.vae.config.scaling_factor
    with torch.no_grad():
        for b, text in enumerate(prompts):
            embeds, empty = pipeline.encode_prompt(text, "cpu", 1, True, negative_prompt="")
            t = draw.timesteps[b]
            for k in range(2):
                posterior = pipeline.vae.encode(images[b, k][None].float() / 127.5 - 1).latent_dist
                latent = (posterior.mean + posterior.std * draw.posterior[b, k]) * scale
                noisy = scheduler.add_noise(latent, draw.noise[b][None], t[None])
                away, toward = (pipeline.unet(noisy, t, e).sample for e in (empty, embeds))
                guess = scheduler.step(away + 5.0 * (toward - away), int(t), noisy).pred_original_sample
                expected = pipeline.vae.decode(guess / scale).sample[0]
                torch.testing.assert_close(found[b, k], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_each_family_predicts_the_same_whatever_the_batch(folders: dict[str, Path], family: str) -> None:
    _, predicted = predictor(folders[family])
    images = torch.randint(0, 256, (3, 2, 3, 16, 16), dtype=torch.uint8)
    ids, prompts = ["x", "y", "z"], ["a red cat", "a dog", "the moon"]
    found = predicted(images, prompts, predicted.draw(ids, [0, 1, 2], 2))
    assert found.shape == (3, 2, 3, 16, 16)
    assert found.isfinite().all()
    alone = predicted(images[1:2], prompts[1:2], predicted.draw(["y"], [1], 2))
    torch.testing.assert_close(alone, found[1:2], rtol=1e-4, atol=1e-4)
    other = predicted(images, ["the moon"] * 3, predicted.draw(ids, [0, 1, 2], 2))
    assert (other - found)[:2].abs().max() > 1e-5


def test_a_draw_depends_on_pair_visit_and_seed_alone(folders: dict[str, Path]) -> None:
    def same(one: NoiseDraw, other: NoiseDraw) -> bool:
        parts = ("timesteps", "noise", "posterior")
        return all(torch.equal(getattr(one, name), getattr(other, name)) for name in parts)

    _, predicted = predictor(folders["sd"])
    one = predicted.draw(["x"], [4], 2)
    both = predicted.draw(["y", "x"], [4, 4], 2)
    assert same(one, NoiseDraw(both.timesteps[1:], both.noise[1:], both.posterior[1:]))
    assert not torch.equal(one.noise, predicted.draw(["x"], [5], 2).noise)
    assert not torch.equal(one.noise, predictor(folders["sd"], seed=1)[1].draw(["x"], [4], 2).noise)
    fixed = predicted.draw(["x"], [4], 2, timestep=951)
    assert fixed.timesteps.tolist() == [951]
    assert torch.equal(fixed.noise, one.noise)
    many = predicted.draw([str(n) for n in range(400)], [0] * 400, 1, band=(100, 200)).timesteps
    assert 100 <= many.min() < 105
    assert 195 < many.max() <= 199
    every = predicted.draw([str(n) for n in range(400)], [0] * 400, 1).timesteps.double()
    assert 460 < every.mean() < 540


def test_both_images_of_a_pair_get_one_noise(folders: dict[str, Path]) -> None:
    """Twice the same image and posterior noise give twice the same prediction."""
    _, predicted = predictor(folders["sd"])
    images = torch.randint(0, 256, (1, 1, 3, 16, 16), dtype=torch.uint8).expand(1, 2, 3, 16, 16)
    draw = predicted.draw(["x"], [0], 2, timestep=500)
    shared = NoiseDraw(draw.timesteps, draw.noise, draw.posterior[:, :1].expand_as(draw.posterior))
    found = predicted(images, ["a cat"], shared)
    assert torch.equal(found[:, 0], found[:, 1])
