"""One row of the table of losses, without torch: what it is called with, its options, needs, formula and paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Value = float | bool | str
Family = Literal["pair", "point", "list", "token"]


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
    """

    default: Value
    surrogate: Value
    above: float | None = 0.0
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    tokens_only: bool = False

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
    """Options by name, as an entry of the table keeps them."""
    return MappingProxyType(given)


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
        extra: further keyword tensors, each with its shape and meaning.
        not_for_surrogates: why the denoising and flow surrogates cannot feed it; empty where they can.
        unverified: what of it was not seen in its source; empty where it was.
    """

    title: str
    paper: str
    family: Family = "pair"
    formula: str = ""
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    needs_reference: bool = True
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    not_for_surrogates: str = ""
    unverified: str = ""


BETA = Option(default=0.1, surrogate=5000.0)
"""Strength of the pull to the reference; the surrogates' value is the official Diffusion-DPO's."""


def untrainable(entry: LossEntry) -> str:
    """Why a recipe cannot train with a loss; empty where it can."""
    if entry.not_for_surrogates:
        return f"cannot be fed by the denoising and flow log-likelihoods: {entry.not_for_surrogates}"
    if entry.family not in ("pair", "list"):
        return f"takes {entry.family}s, and recipes train on pairs and lists so far"
    if entry.extra:
        return f"needs {', '.join(entry.extra)}, which neither the data nor an adapter gives yet"
    return ""
