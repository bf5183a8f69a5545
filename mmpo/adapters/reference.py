"""Reference policies: the frozen model without a second copy where the adapters can be switched off, else a copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class AdaptersOff:
    """The base of a LoRA run: the policy's own module with its adapters switched off.

    Args:
        module: the unwrapped policy. The adapters are on again when the context ends, so also before the backward
            pass; gradient checkpointing would otherwise recompute the policy with the reference's weights.
    Raises:
        ValueError: the module has no adapters, they do not start at 0, or weights outside of them are trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
        if not self._layers:
            raise ValueError("reference adapters_off: the model has no LoRA; use the reference frozen_copy")
        moved = [name for name, p in module.named_parameters() if "lora_B" in name and not p.is_meta and p.any()]
        if moved:
            raise ValueError(
                f"reference adapters_off: the LoRA is not new ({moved[0]} is not 0), so the base is not where the "
                "policy starts; use frozen_copy"
            )
        moving = [name for name, p in module.named_parameters() if p.requires_grad and "lora_" not in name]
        if moving:
            raise ValueError(
                f"reference adapters_off: weights outside the LoRA are trained ({moving[0]}, {len(moving)} in all), "
                "so the base is no longer the reference; use frozen_copy"
            )

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The base model, for as long as the context lasts."""
        were_on = [layer for layer in self._layers if not layer.disable_adapters]
        trained = [(p, p.requires_grad) for layer in were_on for p in layer.parameters()]
        for layer in were_on:
            layer.enable_adapters(False)
        try:
            yield self._module
        finally:
            for layer in were_on:
                layer.enable_adapters(True)
            for parameter, flag in trained:  # peft makes every parameter of an adapter trainable again
                parameter.requires_grad_(flag)


class FrozenCopy:
    """A full fine-tune's reference: a frozen copy in the dtype of the policy's weights.

    Args:
        module: the unwrapped policy, before its first step.
    """

    def __init__(self, module: nn.Module) -> None:
        self._copy = copy.deepcopy(module).requires_grad_(False).eval()

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The copy."""
        yield self._copy
