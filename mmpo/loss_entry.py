"""One row of the table of losses, without torch: what it is called with, its options, needs, formula and paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

Value = float | bool | str
Family = Literal["pair", "point", "list", "token"]
SCALES = ("beta", "tau", "beta_chosen", "beta_rejected")
"""Options that are a strength per log-likelihood in every loss that has them, unless its row says otherwise."""


@dataclass(frozen=True, slots=True)
class Option:
    """One number, switch or name that a loss takes.

    Args:
        default: for summed token log-likelihoods.
        surrogate: default for the denoising and flow surrogates (logp := −½ · mean squared error).
        above: exclusive lower bound of a number; None where there is none.
        at_least: inclusive lower bound, in place of `above`.
        below: exclusive upper bound.
        choices: the names it may be, where it is a name.
        tokens_only: has no meaning for surrogates, where it stays at its default.
        per_logp: how often it is divided by a log-likelihood, so how it changes with `method.beta_convention`: 1 for
            β and what else multiplies one log-likelihood, −1 for a margin that is one; None goes by the name.
    """

    default: Value
    surrogate: Value
    above: float | None = 0.0
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    tokens_only: bool = False
    per_logp: int | None = None

    def fault(self, value: object) -> str:
        """What is wrong with a value, as "expected ..., got ..."; empty where nothing is."""
        if self.choices:
            return "" if value in self.choices else f"expected one of {', '.join(self.choices)}, got {value!r}"
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else f"expected true or false, got {value!r}"
        number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
        low = self.at_least is None or (number and value >= self.at_least)  # type: ignore[operator]
        low = low and (self.at_least is not None or self.above is None or (number and value > self.above))  # type: ignore[operator]
        high = self.below is None or (number and value < self.below)  # type: ignore[operator]
        return "" if number and low and high else f"expected a finite number{self.bounds}, got {value!r}"

    def read(self, value: Value) -> Value:
        """A value as the loss takes it: numbers as floating point."""
        return value if isinstance(value, bool | str) else float(value)

    @property
    def bounds(self) -> str:
        """The bounds of a number in words, such as " above 0"."""
        words = []
        if self.at_least is not None:
            words.append(f"of at least {self.at_least:g}")
        elif self.above is not None:
            words.append(f"above {self.above:g}")
        if self.below is not None:
            words.append(f"below {self.below:g}")
        return " " + " and ".join(words) if words else ""


def option(value: Value, *, surrogate: Value | None = None, **bounds: object) -> Option:
    """An option whose default is the same for tokens and for surrogates unless `surrogate` says otherwise."""
    return Option(value, value if surrogate is None else surrogate, **bounds)  # type: ignore[arg-type]


def options(**given: Option) -> Mapping[str, Option]:
    """Options by name, as an entry of the table keeps them; β and its like are per log-likelihood by their names."""
    powers = {name: (1 if name in SCALES else 0) if o.per_logp is None else o.per_logp for name, o in given.items()}
    return MappingProxyType({name: replace(o, per_logp=powers[name]) for name, o in given.items()})


@dataclass(frozen=True, slots=True)
class LossEntry:
    """One row of the table.

    Args:
        title: of the method.
        paper: arXiv ids.
        family: what the loss is called with: pairs, single labelled samples, lists, or tokens.
        formula: in plain text; δ is a log-ratio to the reference, Δ = δ_chosen − δ_rejected.
        options: numbers, switches and names by keyword.
        needs_reference: whether it compares with a reference.
        needs_lengths: whether it divides by the number of scored tokens.
        extra: further keyword tensors, each with its shape and meaning.
        optional: further keyword tensors that it takes where the loop has them.
        feeds: which feed of `mmpo.loss_feeds` fills one of them, where that is not the one of its name.
        not_for_surrogates: why the denoising and flow surrogates cannot feed it; empty where they can.
        unit_scores: whether its scores must be labels from 0 to 1.
        on_surrogates: what a reader must know of it on the denoising and flow surrogates.
        unverified: what of it was not seen in its source; empty where it was.
    """

    title: str
    paper: str
    family: Family = "pair"
    formula: str = ""
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    needs_reference: bool = True
    needs_lengths: bool = False
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    optional: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    feeds: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unit_scores: bool = False
    not_for_surrogates: str = ""
    on_surrogates: str = ""
    unverified: str = ""


BETA = Option(default=0.1, surrogate=5000.0)
"""Strength of the pull to the reference; the surrogates' value is the official Diffusion-DPO's."""
