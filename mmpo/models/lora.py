"""LoRA on a denoiser, by peft through diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmpo.models.families import Family
from mmpo.recipe import Lora


def add_lora(denoiser: Any, lora: Lora, family: Family, *, seed: int) -> None:
    """Adds a trainable adapter and freezes everything else. Its output is exactly 0 until the first step.

    Args:
        denoiser: a diffusers model; its weights keep their dtype, the adapter's are float32 (float64 for float64).
        lora: rank, alpha, targets, dropout.
        family: what the named targets stand for.
        seed: of the adapter's initial weights (Gaussian A, zero B).
    Raises:
        ValueError: no module matches the targets.
    """
    from peft import LoraConfig

    targets = lora_targets(lora, family)
    matched = [name for name, _ in denoiser.named_modules() if any(_matches(name, target) for target in targets)]
    if not matched:
        raise ValueError(f"model.lora.targets: no module of the {family.denoiser} matches {targets}")
    denoiser.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha if lora.alpha is not None else lora.rank,
        target_modules=targets,
        lora_dropout=lora.dropout,
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser.add_adapter(config)
    for parameter in denoiser.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


def lora_targets(lora: Lora, family: Family) -> list[str]:
    """Module names that the recipe's targets stand for."""
    if isinstance(lora.targets, list):
        return lora.targets
    named = {"attention": family.attention, "attention_convolutions": (*family.attention, *family.convolutions)}
    return list(named[lora.targets])


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the optimiser sees, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
