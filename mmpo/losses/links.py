"""Links: how a logit becomes a loss. Each is small where the logit z [B] is large, and returns [B]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def logistic(z: Tensor) -> Tensor:
    """−log σ(z), as softplus(−z): finite in value and gradient for any finite z."""
    return F.softplus(-z)


def hinge(z: Tensor) -> Tensor:
    """max(0, 1 − z)."""
    return F.relu(1 - z)


def square(z: Tensor, target: float | Tensor) -> Tensor:
    """(z − target)²: pulls the logit to a target from both sides."""
    return (z - target).square()


def sigmoid(z: Tensor) -> Tensor:
    """1 − σ(z), as σ(−z): between 0 and 1, and flat both where the logit is solved and where it is hopeless."""
    return (-z).sigmoid()
