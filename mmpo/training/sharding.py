"""Weights, gradients and optimiser state spread over processes (FSDP2), and gathered again. No-ops on a whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


@dataclass(frozen=True)
class Spread:
    """Which parts of a model are gathered one after the other, and which stay whole on every process.

    Args:
        inside: names of submodules directly below which the lists of blocks stand; "" is the model.
        whole: names of submodules or parameters that are also used outside of the model's forward, where nothing
            gathers them, as a vision tower is. Nothing in them may be trained.
    """

    inside: tuple[str, ...] = ("",)
    whole: tuple[str, ...] = ()


def shard(module: nn.Module, processes: int, device: torch.device, spread: Spread | None = None) -> None:
    """Spreads a module's parameters in place, block by block: a forward gathers one block at a time.

    torch's own `fully_shard`: accelerate's FSDP needs a GPU, and this runs anywhere.

    Args:
        module: whole on every process, with the same weights.
        processes: all of them share each parameter.
        device: of the module.
        spread: default: blocks directly below the module, and everything is spread.
    """
    spread = spread or Spread()
    mesh = init_device_mesh(device.type, (processes,))
    parts = [block for name in spread.inside for block in blocks(module.get_submodule(name))]
    whole = {
        parameter
        for name, parameter in module.named_parameters()
        if any(name == own or name.startswith(f"{own}.") for own in spread.whole)
    }
    assert not any(parameter.requires_grad for parameter in whole), "nobody would average its gradient"
    for part in (*parts, module):
        # the whole module too: gathered weights that outlive a forward would hide what is written into them after it,
        # as the moving average is before an evaluation
        fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=whole)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The parts that repeat: what stands in a list directly below the module, as down blocks or transformer blocks."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was called on it."""
    return isinstance(module, FSDPModule)


def exchange(module: nn.Module, on: bool) -> None:
    """Whether the next backward passes average gradients over the processes."""
    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(on)


@torch.no_grad()
def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors gathered, the same on every process; every process calls it, with the same names."""
    return {name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for name, tensor in tensors.items()}


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor spread as another one is, where that is spread and has its shape."""
    if isinstance(other, DTensor) and tensor.shape == other.shape:
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor


@torch.no_grad()
def gather(module: nn.Module) -> None:
    """Puts whole parameters back in place of the spread ones, for saving. The module is not trained after it."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if isinstance(parameter, DTensor):
                part._parameters[name] = nn.Parameter(parameter.full_tensor(), requires_grad=parameter.requires_grad)
