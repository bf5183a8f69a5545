"""The pair losses on log-ratios for their tests: functions by name, options, further tensors, and the three cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import pair
from torch import Tensor

from mmpo.loss_entries.reference import ENTRIES as PLAIN
from mmpo.loss_entries.reference_extra import ENTRIES as WITH_EXTRA
from mmpo.losses import (
    PairLogps,
    anchored,
    divergences,
    exploration,
    margins,
    references,
    regularizers,
    self_play,
    smoothing,
)

ENTRIES = {**PLAIN, **WITH_EXTRA}
MODULES = (anchored, divergences, exploration, margins, references, regularizers, self_play, smoothing)
LOSS: dict[str, Callable[..., Tensor]] = {
    name: next(getattr(module, name) for module in MODULES if hasattr(module, name)) for name in ENTRIES
}
every = pytest.mark.parametrize("name", list(ENTRIES))
with_extra = pytest.mark.parametrize(("name", "extra"), [(n, e) for n, entry in ENTRIES.items() for e in entry.extra])

CASES = {  # chosen and rejected of the policy, then of the reference; then the numbers of tokens
    "A": (-12.0, -15.0, -13.0, -14.5, 8, 10),  # δ_w = +1, δ_l = −0.5, Δ = +1.5
    "B": (-20.0, -18.0, -19.2, -18.4, 16, 12),  # δ_w = −0.8, δ_l = +0.4, Δ = −1.2
    "C": (-12.0, -15.0, -12.0, -15.0, 8, 10),  # policy == reference
}
OTHER: dict[str, dict[str, Any]] = {  # values that are none of the defaults
    "clipped_dpo": {"beta": 1.3, "clip": 0.9},
    "chi_po": {"beta": 0.03, "gamma": 0.4, "clip": 1.3},
    "f_dpo": {"beta": 1.3, "divergence": "alpha", "alpha": 1.3},
    "modpo": {"beta": 1.3, "link": "hinge"},
    "hpo": {"beta": 1.3, "gamma": 1.3, "lam": 0.7, "tau": 0.2},
}
GRADIENT = ("reference_sample", "online", "revision", "value", "rationale")
"""Further tensors that carry gradient; the others are detached."""


def case(name: str, dtype: torch.dtype = torch.float64) -> tuple[PairLogps, PairLogps]:
    """Policy with its lengths, and reference, of one of the three cases."""
    l_w, l_l, r_w, r_l, n_w, n_l = CASES[name]
    return PairLogps(*pair(l_w, l_l, dtype)[:2], torch.tensor([n_w]), torch.tensor([n_l])), pair(r_w, r_l, dtype)


def options_of(name: str, kind: str = "default") -> dict[str, Any]:
    """The table's defaults: kind "default" for tokens, "surrogate" for denoisers."""
    return {option: getattr(bounds, kind) for option, bounds in ENTRIES[name].options.items()}


def other_options(name: str) -> dict[str, Any]:
    """Options off their defaults: those named in `OTHER`, else 1.3, or 0.4 where there is an upper bound."""
    plain = {option: 1.3 if bounds.below is None else 0.4 for option, bounds in ENTRIES[name].options.items()}
    return OTHER.get(name, plain)


def extras_of(name: str, count: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Further tensors of a loss for `count` pairs, all different."""

    def draw(*shape: int, low: float = -22.0, high: float = -18.0) -> Tensor:
        generator = torch.Generator().manual_seed(len(made))
        values = low + (high - low) * torch.rand(*(7, *shape), generator=generator, dtype=torch.float64)
        return values[torch.arange(count) % 7].to(dtype)

    made: dict[str, Tensor] = {}
    for extra, meaning in ENTRIES[name].extra.items():
        if extra == "margins":
            made[extra] = draw(2, low=-1.0, high=1.0)
        elif extra in ("weights", "alphas"):
            made[extra] = torch.tensor([0.5, 0.3, 0.2], dtype=dtype)
        elif extra.endswith("win_rate"):
            made[extra] = draw(low=0.0, high=1.0)
        elif extra in ("reward", "value") or extra.endswith("_score"):
            made[extra] = draw(low=-1.0, high=1.0)
        else:
            shape = {"[B, 2": (2, 2), "[B] l": ()}.get(meaning[:5], (2,))
            made[extra] = draw(*shape)
    return made
