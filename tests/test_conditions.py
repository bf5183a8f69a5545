"""What the model is given as its condition, and the precision of what is computed with its answer."""

from __future__ import annotations

import pytest
import torch
from surrogates import ALPHAS, Recorder, TinyNet, each_adapter, make_batch, seen

from mmpo.adapters import Denoising, Flow
from mmpo.contracts import Adapter, Batch, Draw

# ---- conditions ----


@each_adapter
@pytest.mark.parametrize("captions", [1, 2])
def test_a_dropped_prompt_is_the_empty_one_for_all_candidates(adapter: Adapter, captions: int) -> None:
    """One decision a group; the others keep their captions, one each where a group has several."""
    batch = make_batch(count=4, captions=captions)
    draw = adapter.draw(batch, seed=0)
    draw = Draw(draw.time, draw.noise, draw.posterior_noise, torch.tensor([True, False, True, False]))
    _, _, condition = seen(adapter, batch, draw)
    given, null = batch.condition["prompt_embeds"], batch.null_condition["prompt_embeds"]
    for b in range(4):
        for k in range(2):
            expected = null if b in (0, 2) else given[b, k % captions]
            assert torch.equal(condition["prompt_embeds"][b, k], expected)


@each_adapter
@torch.no_grad()
def test_each_candidate_is_judged_under_its_own_caption(adapter: Adapter) -> None:
    """Dual captions: [B, K, ...] gives for candidate k what a group of k alone with its caption gives."""
    batch = make_batch(captions=2)
    draw = adapter.draw(batch, seed=0)
    together = adapter.logp(TinyNet(1), batch, draw)
    for k in range(2):
        alone = Batch(
            **{
                **vars(batch),
                "latent_mean": batch.latent_mean[:, k : k + 1],
                "latent_std": batch.latent_std[:, k : k + 1],
                "condition": {name: value[:, k : k + 1] for name, value in batch.condition.items()},
            }
        )
        part = Draw(draw.time, draw.noise, draw.posterior_noise[:, k : k + 1], draw.drop_prompt)
        torch.testing.assert_close(adapter.logp(TinyNet(1), alone, part)[:, 0], together[:, k], rtol=1e-12, atol=0)
    swapped = Batch(**{**vars(batch), "condition": {"prompt_embeds": batch.condition["prompt_embeds"].flip(1)}})
    assert not (adapter.logp(TinyNet(1), swapped, draw) == together).any()


# ---- precision ----
HALF = {
    "epsilon": Denoising(ALPHAS),
    "v": Denoising(ALPHAS, "v_prediction"),
    "v as epsilon": Denoising(ALPHAS, "v_prediction", "epsilon"),
    "flow": Flow(shift=3.0),
}


@pytest.mark.parametrize("name", HALF)
@torch.no_grad()
def test_errors_are_float32_when_the_model_answers_in_bfloat16(name: str) -> None:
    """The prediction is widened before anything is computed with it: bit for bit as if float32 had come."""
    batch = make_batch(dtype=torch.float32)
    adapter = HALF[name]
    draw = adapter.draw(batch, seed=0)
    low = Recorder(lambda noisy: (0.9 * noisy).bfloat16())
    wide = Recorder(lambda noisy: (0.9 * noisy).bfloat16().float())
    got = adapter.logp(low, batch, draw)
    assert got.dtype == torch.float32
    assert torch.equal(got, adapter.logp(wide, batch, draw))
