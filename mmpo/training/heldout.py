"""Held-out preference evaluation: does the policy prefer what people (or the reward) preferred, on unseen prompts?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmpo.contracts import Adapter, Batch
from mmpo.training.size_order import chunks_by_size
from mmpo.training.statistics import Interval, clustered_mean

BANDS = 4
SATURATED = 10.0


class Groups(Protocol):
    """Encoded groups by position."""

    def __len__(self) -> int: ...

    @property
    def longest(self) -> int:
        """Candidates of the longest group."""
        ...

    def name(self, index: int) -> str:
        """What the group at this position is, with all that its forward depends on."""
        ...

    @property
    def sizes(self) -> Sequence[Hashable]:
        """What the groups of one batch must share, per group: the size of their images."""
        ...

    def batch(self, indices: Sequence[int], visits: Sequence[int] | int = 0) -> Batch:
        """The groups at these positions."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """One held-out evaluation.

    Args:
        accuracy: share of pairs whose Δ, averaged over all draws, is above 0 (exactly 0 counts a half).
        by_band: the same per quarter of the noise levels, cleanest first.
        chosen_error: squared error of the chosen images minus the reference's; above 0 is worse than the reference.
        rejected_error: likewise of the rejected ones.
        saturated: share of pairs whose averaged logit β·Δ is beyond ±10.
        reference_error: the reference's own squared error of the chosen images, which the difference is measured by.
        broken: how many pairs have a log-likelihood that is not finite; they are in no other figure.
        prompts: number of distinct prompts behind the intervals.
        pairs: number of pairs.
    """

    accuracy: Interval
    by_band: list[Interval]
    chosen_error: Interval
    rejected_error: Interval
    saturated: float
    pairs: int
    reference_error: float = float("nan")
    broken: int = 0
    prompts: int | None = None

    @property
    def rise(self) -> float:
        """The chosen error's change as a share of the reference's error: 0.1 is 10 % worse than the reference."""
        return self.chosen_error.mean / self.reference_error

    def metrics(self) -> dict[str, float]:
        """Flat numbers for logs."""
        named = {
            "eval/accuracy": self.accuracy.mean,
            "eval/accuracy_low": self.accuracy.low,
            "eval/accuracy_high": self.accuracy.high,
            "eval/chosen_error_vs_reference": self.chosen_error.mean,
            "eval/chosen_error_standard_error": self.chosen_error.standard_error,
            "eval/rejected_error_vs_reference": self.rejected_error.mean,
            "eval/reference_error": self.reference_error,
            "eval/saturated": self.saturated,
            "eval/broken": float(self.broken),
        }
        for number, band in enumerate(self.by_band):
            named[f"eval/accuracy@t[{number / BANDS:g}-{(number + 1) / BANDS:g}]"] = band.mean
        return named

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def held_out_logps(
    logp: Callable[[Batch, Any], Tensor],
    adapter: Adapter,
    groups: Groups,
    indices: Sequence[int],
    *,
    seed: int,
    draws: int,
    batch_size: int,
    prepare: Callable[[Batch], Batch],
) -> Tensor:
    """[N, BANDS · draws, 2] log-likelihoods of these pairs, always with the same draws: both sides under one noise.

    Args:
        logp: `(batch, draw) -> [B, K]`, of the policy or of the reference.
        indices: N positions.
        seed: of the draws, independent of the training's.
        draws: per group and band.
        prepare: moves a batch to the device.
    """
    found: dict[int, Tensor] = {}
    for chunk in chunks_by_size(indices, groups.sizes, batch_size):
        batch = prepare(groups.batch(chunk))
        columns = []
        for band in range(BANDS):
            for visit in range(draws):
                draw = adapter.draw(batch, seed, visit, band=(band / BANDS, (band + 1) / BANDS)).with_one_noise()
                columns.append(logp(batch, draw).cpu().double())
        found |= zip(chunk, torch.stack(columns, dim=1), strict=True)
    if not found:
        return torch.zeros(0, BANDS * draws, 2, dtype=torch.float64)
    return torch.stack([found[index] for index in indices])


def summarise(policy: Tensor, reference: Tensor, clusters: Sequence[str], *, beta: float) -> HeldOut:
    """Held-out figures from the log-likelihoods of `held_out_logps`, both [N, BANDS · draws, 2], chosen first.

    Of answers, which nothing is drawn for, they are [N, 1, 2], and there are no bands.

    Args:
        clusters: N names of prompts, for the intervals.
        beta: scale of the logit.
    """
    whole = torch.isfinite(policy - reference).all(dim=2).all(dim=1)
    pairs, clusters = len(whole), [name for name, keep in zip(clusters, whole.tolist(), strict=True) if keep]
    ratio = (policy - reference)[whole]
    delta = ratio[..., 0] - ratio[..., 1]
    count = BANDS if delta.shape[1] >= BANDS else 0
    bands = delta.view(len(delta), BANDS, delta.shape[1] // BANDS).mean(2) if count else delta
    errors = (-2 * ratio).mean(1)
    return HeldOut(
        accuracy=_mean(_wins(delta.mean(1)), clusters),
        by_band=[_mean(_wins(bands[:, band]), clusters) for band in range(count)],
        chosen_error=_mean(errors[:, 0].numpy(), clusters),
        rejected_error=_mean(errors[:, 1].numpy(), clusters),
        saturated=float(((beta * delta.mean(1)).abs() > SATURATED).double().mean()) if len(delta) else 0.0,
        reference_error=float(-2 * reference[whole][..., 0].mean()) if len(delta) else float("nan"),
        broken=pairs - len(delta),
        pairs=pairs,
        prompts=len(set(clusters)),
    )


def _mean(values: np.ndarray, clusters: Sequence[str]) -> Interval:
    """The clustered mean, or NaN where no pair is left."""
    nothing = float("nan")
    return clustered_mean(values, clusters) if len(values) else Interval(nothing, nothing, nothing, nothing)


def _wins(delta: Tensor) -> np.ndarray:
    return (0.5 + 0.5 * torch.sign(delta)).numpy()
