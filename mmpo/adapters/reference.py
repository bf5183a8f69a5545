"""Reference policies: the frozen model without a second copy where the adapters can be switched off, else a copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn


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
                "policy starts; use frozen_adapter (or auto)"
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
        with _gradient_flags_kept(were_on):
            for layer in were_on:
                layer.enable_adapters(False)
            try:
                yield self._module
            finally:
                for layer in were_on:
                    layer.enable_adapters(True)


class FrozenAdapter:
    """The reference of a run that starts from a LoRA: a frozen second copy of that LoRA in the policy's own module.

    Args:
        module: the unwrapped policy, whose adapter `policy` holds the weights the run starts from. It gets a second
            adapter, "reference", without dropout; the policy's adapter stays the active one.
        policy: name of the trained adapter.
    Raises:
        ValueError: the module has no such adapter, or weights outside of it are trained.
    """

    name = "reference"

    def __init__(self, module: nn.Module, policy: str = "default") -> None:
        self._module = module
        self._layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
        self._policy = policy
        configs: Any = getattr(module, "peft_config", {})
        if not self._layers or policy not in configs:
            raise ValueError("reference frozen_adapter: the model has no LoRA to start from; use frozen_copy")
        moving = [name for name, p in module.named_parameters() if p.requires_grad and f".{policy}." not in name]
        if moving:
            raise ValueError(
                f"reference frozen_adapter: weights outside the LoRA are trained ({moving[0]}, {len(moving)} in all), "
                "so the base is no longer the reference's; use frozen_copy"
            )
        config = copy.deepcopy(configs[policy])
        config.lora_dropout = 0.0
        config.init_lora_weights = True  # others may change the base; these weights are replaced anyhow
        with _gradient_flags_kept(self._layers), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two adapters are meant
            cast("Any", module).add_adapter(config, adapter_name=self.name)
            cast("Any", module).set_adapter(policy)
        parameters = dict(module.named_parameters())
        for name, parameter in parameters.items():
            if f".{self.name}." in name:
                parameter.data = parameters[name.replace(f".{self.name}.", f".{policy}.")].detach().clone()
                parameter.requires_grad_(False)
        self._frozen = [parameter for name, parameter in parameters.items() if f".{self.name}." in name]

    def tensors(self) -> dict[str, Tensor]:
        """The reference's own weights, by name."""
        return {name: p for name, p in self._module.named_parameters() if f".{self.name}." in name}

    @torch.no_grad()
    def refresh(self) -> None:
        """The reference becomes what the policy is now."""
        policy = dict(self._module.named_parameters())
        for name, parameter in self.tensors().items():
            parameter.copy_(policy[name.replace(f".{self.name}.", f".{self._policy}.")])

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The base with the LoRA as it was at the start, for as long as the context lasts."""
        with _gradient_flags_kept(self._layers):
            for layer in self._layers:
                layer.set_adapter(self.name)
            for parameter in self._frozen:
                parameter.requires_grad_(False)
            try:
                yield self._module
            finally:
                for layer in self._layers:
                    layer.set_adapter(self._policy)


@contextmanager
def _gradient_flags_kept(layers: Sequence[nn.Module]) -> Iterator[None]:
    """peft makes every parameter of an adapter that it switches on trainable; this puts the flags back."""
    flags = [(parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()]
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class FrozenCopy:
    """A full fine-tune's reference: a frozen copy in the dtype of the policy's weights.

    Args:
        module: the unwrapped policy, before its first step.
        offload: the copy waits in CPU memory and is on the module's device only while it is used. A copy of the
            weights comes back bit for bit, so the logit at step 0 is still exactly 0.
    """

    def __init__(self, module: nn.Module, *, offload: bool = False) -> None:
        self._device = next(module.parameters()).device
        self._offload = offload
        if offload:
            module.to("cpu")  # so that the device never holds both
        self._copy = copy.deepcopy(module).requires_grad_(False).eval()
        self._policy = module
        module.to(self._device)

    @property
    def copy(self) -> nn.Module:
        """The frozen model."""
        return self._copy

    def tensors(self) -> dict[str, Tensor]:
        """The reference's own weights, by name."""
        return dict(self._copy.named_parameters())

    @torch.no_grad()
    def refresh(self) -> None:
        """The reference becomes what the policy is now."""
        policy = dict(self._policy.named_parameters())
        for name, parameter in self.tensors().items():
            parameter.copy_(policy[name])

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """The copy."""
        if not self._offload:
            yield self._copy
            return
        try:
            yield self._copy.to(self._device)
        finally:
            self._copy.to("cpu")
