"""A base's dropout and batch norms while its LoRA is trained."""

from __future__ import annotations

import copy

import torch
from torch import nn

from pipelines.build_vlm import without_chance


def test_a_base_computes_in_training_as_in_evaluation() -> None:
    """Outputs, running statistics, and gradients, with a batch beside a row or without."""
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
    layers[1].running_mean.fill_(0.7)  # type: ignore[union-attr, operator]
    wanted, images = copy.deepcopy(layers).eval(), torch.randn(5, 3, 6, 6)
    without_chance(layers)
    layers.train()
    assert torch.equal(layers(images), wanted(images))
    assert torch.equal(layers(images[:1]), wanted(images[:1]))
    layers.train()
    layers(images).sum().backward()
    wanted(images).sum().backward()
    assert torch.equal(layers[0].weight.grad, wanted[0].weight.grad)  # type: ignore[arg-type]
    assert torch.equal(layers[1].running_mean, wanted[1].running_mean)  # type: ignore[arg-type]
