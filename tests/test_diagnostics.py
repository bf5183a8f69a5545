"""What is reported beside the loss."""

from __future__ import annotations

import torch

from mmpo.losses import PairLogps
from mmpo.losses.diagnostics import accuracies, implied_rewards


def test_implied_rewards_and_accuracies() -> None:
    """β·δ of both sides, unclamped; an untrained policy (Δ = 0) counts a half. No gradient."""
    policy = PairLogps(torch.tensor([-12.0, -20.0, -1.0], requires_grad=True), torch.tensor([-15.0, -18.0, -2.0]))
    reference = PairLogps(torch.tensor([-13.0, -19.2, -1.0]), torch.tensor([-14.5, -18.4, -2.0]))
    chosen, rejected = implied_rewards(policy, reference, beta=10.0)
    torch.testing.assert_close(chosen, torch.tensor([10.0, -8.0, 0.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(rejected, torch.tensor([-5.0, 4.0, 0.0]), rtol=0, atol=1e-4)
    assert accuracies(policy, reference).tolist() == [1.0, 0.0, 0.5]
    assert not any(x.requires_grad for x in (chosen, rejected, accuracies(policy, reference)))
