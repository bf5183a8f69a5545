"""The figures that the memory presets rest on, counted on Stable Diffusion 1.5's denoiser without its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmpo.models.checkpoint import read_config
from mmpo.models.lora import add_lora, trainable_parameters
from mmpo.recipe import Lora
from pipelines.dry_run import empty_denoiser

GB = 1e9


def denoiser(rank: int = 16) -> nn.Module:
    """The architecture in bfloat16 on the meta device, with a LoRA."""
    config = read_config("stable-diffusion-v1-5/stable-diffusion-v1-5")
    module: nn.Module = empty_denoiser(config)
    module.to(torch.bfloat16)
    add_lora(module, Lora(rank=rank), config.family, seed=0)
    return module.train()


def kept_for_backward(module: nn.Module, images: int) -> float:
    """GB that autograd keeps of a forward at 512 pixels, without weights and without matrices of self-attention."""
    weights = {weight.untyped_storage()._cdata for weight in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[-2:] not in ((4096, 4096), (1024, 1024), (256, 256)):  # cells x cells, by level
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    noisy = torch.empty(images, 4, 64, 64, device="meta", dtype=torch.bfloat16)
    steps = torch.zeros(images, device="meta")
    text = torch.empty(images, 77, 768, device="meta", dtype=torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(noisy, steps, text)
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights) / GB


def test_weights_and_optimiser_take_what_the_estimate_says() -> None:
    module = denoiser(rank=16)
    trained = sum(weight.numel() for weight in trainable_parameters(module).values())
    frozen = sum(weight.numel() for weight in module.parameters()) - trained
    assert frozen * 2 / GB == pytest.approx(1.7, abs=0.05)
    assert trained * 16 / GB / 16 == pytest.approx(0.0032, rel=0.05)


def test_a_pairs_activations_take_what_the_estimate_says() -> None:
    module = denoiser()
    assert kept_for_backward(module, images=2) == pytest.approx(2.3, abs=0.1)
    module.enable_gradient_checkpointing()
    assert kept_for_backward(module, images=2) == pytest.approx(0.3, abs=0.05)
