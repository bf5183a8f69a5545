"""The reference policies: the base bit for bit, and no log-ratio before the first step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from surrogates import ALPHAS, make_batch
from torch import Tensor, nn

from mmpo.adapters import AdaptersOff, Denoising, FrozenCopy
from mmpo.contracts import Batch, Predict
from mmpo.losses import LOSSES, PairLogps
from mmpo.models.lora import add_lora, trainable_parameters
from mmpo.models.sd import FAMILY, predict
from mmpo.recipe import Lora

each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def unet_predict(unet: nn.Module, dtype: torch.dtype) -> Predict:
    """The Stable Diffusion forward with inputs in the dtype of the weights, as a run binds it."""
    return lambda noisy, t, condition: predict(
        unet, noisy.to(dtype), t, {name: value.to(dtype) for name, value in condition.items()}
    )


def load_unet(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The tiny checkpoint's denoiser."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)


def with_lora(folder: Path, dtype: torch.dtype = torch.float32, *, dropout: float = 0.0) -> Any:
    """The same with a fresh LoRA."""
    unet = load_unet(folder, dtype)
    add_lora(unet, Lora(rank=2, dropout=dropout), FAMILY, seed=0)
    return unet.train()


@torch.no_grad()
def perturb(unet: nn.Module) -> None:
    """Moves the trainable weights, as steps do."""
    generator = torch.Generator().manual_seed(9)
    for parameter in trainable_parameters(unet).values():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)


def sd_batch() -> Batch:
    """Latents and embeddings of the tiny checkpoint's sizes, in float32 as runs hold them."""
    return make_batch(dtype=torch.float32, size=8, features=16)


# ---- an untrained policy ----


@each_precision
def test_an_untrained_lora_has_log_ratio_exactly_0(sd_folder: Path, dtype: torch.dtype) -> None:
    """Policy with gradient and LoRA dropout, reference without: B = 0 leaves not one bit of difference."""
    unet = with_lora(sd_folder, dtype, dropout=0.1)
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), AdaptersOff(unet).active() as base:
        reference = adapter.logp(unet_predict(base, dtype), batch, draw)
    policy = adapter.logp(unet_predict(unet, dtype), batch, draw)
    assert policy.requires_grad
    assert not reference.requires_grad
    assert policy.dtype == reference.dtype == torch.float32
    assert torch.equal(policy, reference)
    perturb(unet)
    assert not (adapter.logp(unet_predict(unet, dtype), batch, draw) == reference).any()


@each_precision
def test_an_untrained_copy_has_log_ratio_exactly_0(sd_folder: Path, dtype: torch.dtype) -> None:
    """A full fine-tune before its first step."""
    unet = load_unet(sd_folder, dtype).train()
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), FrozenCopy(unet).active() as frozen:
        reference = adapter.logp(unet_predict(frozen, dtype), batch, draw)
    assert torch.equal(adapter.logp(unet_predict(unet, dtype), batch, draw), reference)


# ---- reference policies ----


@torch.no_grad()
def answer(unet: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the denoiser predicts for one fixed input."""
    batch = sd_batch()
    condition = {"prompt_embeds": batch.condition["prompt_embeds"][:, 0]}
    return unet_predict(unet, dtype)(batch.latent_mean[:, 0], torch.tensor([10, 500, 990]), condition)


def gradients_wanted(module: nn.Module) -> dict[str, bool]:
    """requires_grad by name."""
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


@each_precision
def test_adapters_off_is_the_base_bit_for_bit(sd_folder: Path, dtype: torch.dtype) -> None:
    """Also after the LoRA has moved; outside of the context the policy answers as before."""
    base = answer(load_unet(sd_folder, dtype), dtype)
    unet = with_lora(sd_folder, dtype)
    reference = AdaptersOff(unet)
    perturb(unet)
    policy = answer(unet, dtype)
    assert not torch.equal(policy, base)
    for _ in range(2):
        with reference.active() as module:
            assert torch.equal(answer(module, dtype), base)
        assert torch.equal(answer(unet, dtype), policy)


@pytest.mark.parametrize("fails", [False, True])
def test_adapters_and_gradients_come_back(sd_folder: Path, fails: bool) -> None:
    """Also when the forward raises, else the rest of the run would train nothing; accumulated gradients stay."""
    unet = with_lora(sd_folder)
    reference = AdaptersOff(unet)
    perturb(unet)
    policy, wanted = answer(unet), gradients_wanted(unet)
    assert set(wanted.values()) == {True, False}
    for parameter in trainable_parameters(unet).values():
        parameter.grad = torch.ones_like(parameter)

    def use() -> None:
        with reference.active():
            if fails:
                raise RuntimeError("out of memory")

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            use()
    else:
        use()
    assert gradients_wanted(unet) == wanted
    assert torch.equal(answer(unet), policy)
    assert all(p.grad is not None and p.grad.eq(1).all() for p in trainable_parameters(unet).values())


def test_a_frozen_part_of_the_lora_stays_frozen(sd_folder: Path) -> None:
    """requires_grad comes back as it was, not as peft would set it: A may be frozen on purpose."""
    unet = with_lora(sd_folder)
    for name, parameter in unet.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    wanted = gradients_wanted(unet)
    with AdaptersOff(unet).active():
        pass
    assert gradients_wanted(unet) == wanted


def test_the_backward_pass_after_the_reference_reaches_the_lora(sd_folder: Path) -> None:
    """The reference before the policy, as a step does it: every B gets a gradient, the base none."""
    unet = with_lora(sd_folder)
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), AdaptersOff(unet).active() as base:
        reference = adapter.logp(unet_predict(base, torch.float32), batch, draw)
    policy = adapter.logp(unet_predict(unet, torch.float32), batch, draw)
    pairs = [PairLogps(*x.unbind(1)) for x in (policy, reference)]
    LOSSES["dpo"](*pairs, beta=5000.0).mean().backward()
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0
        elif "lora_" not in name:
            assert parameter.grad is None


def test_adapters_off_needs_a_lora(sd_folder: Path) -> None:
    """Without one the reference would be the policy itself, and nothing would be learnt."""
    with pytest.raises(ValueError, match=r"no LoRA.*frozen_copy"):
        AdaptersOff(load_unet(sd_folder))


def test_adapters_off_refuses_a_base_that_moves(sd_folder: Path) -> None:
    """With a trained weight outside of the LoRA the base is no reference; the error names it."""
    unet = with_lora(sd_folder)
    unet.conv_in.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"conv_in\.weight, 1 in all.*frozen_copy"):
        AdaptersOff(unet)


def test_a_frozen_copy_stays_when_the_policy_moves(sd_folder: Path) -> None:
    """No shared storage, nothing trainable, the dtype of the policy's weights."""
    unet = load_unet(sd_folder).train().requires_grad_(True)
    reference = FrozenCopy(unet)
    before, weights = answer(unet), copy.deepcopy(unet.state_dict())
    perturb(unet)
    with reference.active() as frozen:
        assert frozen is not unet
        assert torch.equal(answer(frozen), before)
        assert not any(gradients_wanted(frozen).values())
        assert not frozen.training
        assert all(torch.equal(weights[name], value) for name, value in frozen.state_dict().items())
    assert all(gradients_wanted(unet).values())
    assert unet.training
    assert not torch.equal(answer(unet), before)
