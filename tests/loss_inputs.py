"""Random inputs for any row of the table of losses: tensors by the names that errors use, and the call itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES, PairLogps

Given = dict[str, Any]
"""Tensors by name: "policy" and "reference", or "policy.chosen" and so on for pairs; then the further keywords."""

TOKENS = {"chosen": 4, "rejected": 6, "": 4}
STEPS = 7
"""Steps of a candidate; a number that no test gives to the candidates, so that the sizes of dimensions tell them."""
SHARED = ("weights", "alphas", "z0")
"""Further tensors without a dimension of samples."""
PLACES = {"mapo": (-0.05, 1e-3), "d3po": (-1.5, 0.015)}
"""Location and spread of log-likelihoods where −20 and 1 would not do: MaPO is flat but for errors about 0.1, D3PO but
for ratios near 1."""


@dataclass(frozen=True)
class Draw:
    """The numbers of one set of inputs: `shapes` are those of the log-likelihoods ("chosen", "rejected" or "")."""

    generator: torch.Generator
    shapes: dict[str, tuple[int, ...]]
    count: int
    size: int
    scale: float

    def normal(self, *shape: int, mean: float = 0.0, spread: float = 1.0) -> Tensor:
        """Normal numbers; `scale` stretches them."""
        return mean + self.scale * spread * torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), whatever the scale."""
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def mask(self, *shape: int) -> Tensor:
        """True for about two of three, among them the first of each row."""
        values = self.uniform(*shape) < 0.67
        values[..., :1] = True
        return values

    def shares(self) -> Tensor:
        """Three weights with sum 1, exact in half precision."""
        return torch.tensor([4.0, 3.0, 1.0], dtype=torch.float64)[torch.randperm(3, generator=self.generator)] / 8


Maker = Callable[[Draw], Tensor]


def _rows(*rest: int) -> Maker:
    """Log-likelihoods [B, ...]."""
    return lambda draw: draw.normal(draw.count, *rest, mean=-20.0)


def _scores(draw: Draw) -> Tensor:
    """Any numbers [B]."""
    return draw.normal(draw.count)


def _rates(draw: Draw) -> Tensor:
    """Probabilities [B]."""
    return draw.uniform(draw.count)


def _flags(draw: Draw) -> Tensor:
    """Yes or no [B], both of them."""
    return (torch.arange(draw.count) + int(2 * draw.uniform(1))) % 2 == 0


def _size(side: str) -> Maker:
    """Numbers of at least 0, one a sample or a token of this side."""
    return lambda draw: draw.normal(*draw.shapes[side]).abs()


def _cosines(draw: Draw) -> Tensor:
    """[B, K, K, S], symmetric."""
    values = 2 * draw.uniform(draw.count, draw.size, draw.size, STEPS) - 1
    return (values + values.transpose(1, 2)) / 2


def _whole(*shape: int, draw: Draw) -> Tensor:
    """Numbers of tokens."""
    return torch.randint(5, 41, shape, generator=draw.generator)


MAKERS: dict[str, Maker] = {
    "aligned": lambda draw: draw.uniform(draw.count, 3) - 2,
    "alphas": Draw.shares,
    "chosen_behavior": lambda draw: draw.normal(draw.count, mean=-20.0, spread=0.1),
    "chosen_drift": _rates,
    "chosen_kl": _size("chosen"),
    "chosen_kl_weight": _size("chosen"),
    "chosen_mask": lambda draw: draw.mask(*draw.shapes["chosen"]),
    "chosen_reward": _scores,
    "chosen_reward_weight": _size("chosen"),
    "chosen_score": _scores,
    "chosen_win_rate": _rates,
    "cosines": _cosines,
    "desirable": _flags,
    "gold_nll": lambda draw: draw.normal(draw.count).abs(),
    "kl": _size(""),
    "length": lambda draw: _whole(draw.count, draw=draw),
    "lengths": lambda draw: _whole(draw.count, draw.size, draw=draw),
    "margins": lambda draw: draw.normal(draw.count, 2),
    "mask": lambda draw: draw.mask(*draw.shapes[""]),
    "online": _rows(2),
    "online_reference": _rows(2),
    "other_chosen": _rows(2),
    "other_rejected": _rows(2),
    "photo_wins": _flags,
    "preference": _rates,
    "previous_chosen": _rows(),
    "previous_rejected": _rows(),
    "rationale": _rows(),
    "reference_revision": _rows(2, 2),
    "reference_sample": _rows(),
    "rejected_behavior": lambda draw: draw.normal(draw.count, mean=-20.0, spread=0.1),
    "rejected_kl": _size("rejected"),
    "rejected_kl_weight": _size("rejected"),
    "rejected_mask": lambda draw: draw.mask(*draw.shapes["rejected"]),
    "rejected_reward": _scores,
    "rejected_reward_weight": _size("rejected"),
    "rejected_score": _scores,
    "rejected_win_rate": _rates,
    "revision": _rows(2, 2),
    "reward": _scores,
    "step_mask": lambda draw: draw.mask(draw.count, draw.size, STEPS),
    "value": _scores,
    "values": lambda draw: draw.normal(*draw.shapes[""]),
    "weights": Draw.shares,
    "z0": lambda draw: draw.uniform(1)[0],
}
"""How to make each further tensor, by its name in the table."""


def names(family: str) -> list[str]:
    """The losses of a family."""
    return sorted(name for name, entry in LOSS_TABLE.items() if entry.family == family)


def each(family: str) -> pytest.MarkDecorator:
    """Runs a test with every loss of a family."""
    return pytest.mark.parametrize("name", names(family))


def _shapes(name: str, count: int, size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the log-likelihoods of a loss: by side for pairs, under "" for the rest."""
    entry = LOSS_TABLE[name]
    if entry.family == "list":
        return {"": (count, size, STEPS) if "step_mask" in entry.extra else (count, size)}
    sides = ("chosen", "rejected") if entry.family == "pair" or "chosen_mask" in entry.extra else ("",)
    return {side: (count, TOKENS[side]) if entry.family == "token" else (count,) for side in sides}


def inputs(
    name: str, count: int = 8, *, size: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> Given:
    """All tensors of a loss, random: `count` samples, lists of `size`, what has no bounds stretched by `scale`."""
    shapes = _shapes(name, count, size)
    draw = Draw(torch.Generator().manual_seed(seed), shapes, count, size, scale)
    family = LOSS_TABLE[name].family
    mean, spread = PLACES.get(name, (-2.0 if family == "token" else -20.0, 1.0))
    given: Given = {}
    for who in ("policy", "reference"):
        for side, shape in shapes.items():
            given[f"{who}.{side}".rstrip(".")] = draw.normal(*shape, mean=mean, spread=spread)
    if family == "pair":
        given |= {f"policy.{side}_length": _whole(count, draw=draw) for side in shapes}
    if family == "list":
        labels = draw.uniform(count, size).argsort(-1)
        given |= {"scores": (labels.double() + 0.5) / max(size, 1), "mask": torch.ones(count, size, dtype=torch.bool)}
    for extra in LOSS_TABLE[name].extra:
        assert extra in MAKERS, f"{name} takes {extra}, which tests/loss_inputs.py has no maker for: add one to MAKERS"
        given[extra] = MAKERS[extra](draw)
    return cast(given, dtype)


def cast(given: Given, dtype: torch.dtype, start: str = "") -> Given:
    """The same with its floating-point tensors, or those whose names begin so, in another dtype."""
    return {key: x.to(dtype) if x.is_floating_point() and key.startswith(start) else x for key, x in given.items()}


def rows(given: Given, index: slice) -> Given:
    """The same for some of the samples."""
    return {key: x if key in SHARED else x[index] for key, x in given.items()}


def defaults(name: str, kind: str = "default") -> dict[str, Any]:
    """The table's options: "default" for tokens, "surrogate" for images."""
    return {option: getattr(bounds, kind) for option, bounds in LOSS_TABLE[name].options.items()}


def option_sets(name: str) -> list[dict[str, Any]]:
    """Both defaults, then values off them: 1.3 or between the bounds, switches turned, and every choice in turn."""
    sets = [defaults(name), defaults(name, "surrogate")]
    other: dict[str, Any] = {}
    for option, bounds in LOSS_TABLE[name].options.items():
        if isinstance(bounds.default, bool):
            other[option] = not bounds.default
        elif not bounds.choices:
            low = bounds.at_least if bounds.at_least is not None else bounds.above or 0.0
            other[option] = 1.3 if bounds.below is None else (low + bounds.below) / 2
    choices = [{option: choice} for option, bounds in LOSS_TABLE[name].options.items() for choice in bounds.choices]
    return [*sets, *({**defaults(name), **other, **choice} for choice in choices or [{}])]


def call(name: str, given: Given, **options: Any) -> Tensor:
    """The loss [B] with its default options, or these."""
    keywords = {**defaults(name), **given, **options}
    models: list[Any] = []
    for who in ("policy", "reference"):
        parts = {key.partition(".")[2]: keywords.pop(key) for key in list(keywords) if key.startswith(f"{who}.")}
        models.append(PairLogps(**parts) if parts else keywords.pop(who, None))
    return LOSSES[name](*models, **keywords)


def without_reference(given: Given) -> Given:
    """The same without the frozen model's log-likelihoods."""
    return {key: x for key, x in given.items() if key.partition(".")[0] != "reference"}


def policy_keys(given: Given) -> list[str]:
    """Names of the policy's log-likelihoods."""
    return [key for key, x in given.items() if key.startswith("policy") and x.is_floating_point()]


def gradients(name: str, given: Given, keys: list[str], **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss [B], and the derivatives of its sum by some of the tensors."""
    leaves = {key: given[key].detach().clone().requires_grad_() for key in keys}
    values = call(name, {**given, **leaves}, **options)
    if not values.requires_grad:
        return values, {key: torch.zeros_like(leaf) for key, leaf in leaves.items()}
    found = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return values.detach(), dict(zip(keys, found, strict=True))
