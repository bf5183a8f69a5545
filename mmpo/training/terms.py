"""A run's loss: the weighted sum of its terms, each called as its family is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmpo.losses.types import PairLogps
from mmpo.training.feeds import FEEDS, Forward


@dataclass(frozen=True)
class Term:
    """One loss of a run.

    Args:
        name: of the loss.
        loss: `(policy, reference, ...) -> [B]`, options bound.
        family: what it is called with: "pair", "point" or "list".
        extra: its further tensors: the name of the argument, and of the feed or column that fills it.
        weight: multiplies it.
        given: those of `extra` that the recipe states, the same for every batch.
        shares: called as the loss, [B] of 0 and 1 by name: how often it clamps or gates, for the metrics.
    """

    name: str
    loss: Callable[..., Tensor]
    family: str = "pair"
    extra: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    given: Mapping[str, Tensor] = field(default_factory=dict)
    shares: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)


def as_pair(logps: Tensor, mask: Tensor | None = None) -> PairLogps:
    """The first and the last candidate that is there, of [B, K], best first, as the pair losses take them."""
    if logps.shape[1] == 2 or mask is None:
        return PairLogps(chosen=logps[:, 0], rejected=logps[:, -1])
    last = mask.long().sum(1, keepdim=True) - 1
    return PairLogps(chosen=logps[:, 0], rejected=logps.gather(1, last).squeeze(1))


def _fed(feed: str, term: Term, forward: Forward) -> Tensor:
    """A further tensor: computed, stated by the recipe, or a column of the data."""
    if feed in FEEDS:
        return FEEDS[feed](forward)
    return term.given[feed] if feed in term.given else forward.batch.extra[feed]


def extras(term: Term, forward: Forward) -> dict[str, Tensor]:
    """A term's further tensors by argument."""
    return {name: _fed(feed, term, forward) for name, feed in term.extra.items()}


def term_values(term: Term, forward: Forward, extra: Mapping[str, Tensor]) -> Tensor:
    """A term's loss per group [B], its weight not applied."""
    policy, reference, batch = forward.policy, forward.reference, forward.batch
    if term.family == "list":
        return term.loss(policy, reference, scores=batch.scores, mask=batch.mask, **extra)
    if term.family == "point":
        flat = [None if logps is None else logps.flatten() for logps in (policy, reference)]
        return term.loss(*flat, **extra).view_as(policy).mean(1)
    skip = int("gold_nll" in term.extra)  # the first of three is the gold answer, the second the chosen one
    mask = None if batch.mask is None else batch.mask[:, skip:]
    against = as_pair(reference[:, skip:], mask) if reference is not None else None
    return term.loss(as_pair(policy[:, skip:], mask), against, **extra)


def fewest_groups(terms: Sequence[Term]) -> int:
    """How many groups one forward must hold: candidates under another group's prompt need one."""
    return 2 if any("mismatched_z0" in term.extra.values() for term in terms) else 1


def total(terms: Sequence[Term], forward: Forward, *, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """(the loss to minimise [], metrics).

    Args:
        terms: at least one.
        weight: multiplies the sum.
    Returns:
        The mean over groups of the weighted sum; with several terms each one's own mean by name, weights not applied.
    """
    given = [extras(term, forward) for term in terms]
    means = [term_values(term, forward, extra).mean() for term, extra in zip(terms, given, strict=True)]
    loss = torch.stack([term.weight * mean for term, mean in zip(terms, means, strict=True)]).sum() * weight
    metrics = {}
    if len(terms) > 1:
        names = [f"loss/{n}-{term.name}" for n, term in enumerate(terms, 1)]
        metrics = {name: mean.detach() for name, mean in zip(names, means, strict=True)}
    return loss, metrics | _shares(terms, given, forward)


def _shares(terms: Sequence[Term], given: Sequence[Mapping[str, Tensor]], forward: Forward) -> dict[str, Tensor]:
    """By name; with several terms the term's number stands before it."""
    if forward.reference is None:
        return {}
    pair = [as_pair(logps.detach(), forward.batch.mask) for logps in (forward.policy, forward.reference)]
    found = {}
    for number, (term, extra) in enumerate(zip(terms, given, strict=True), 1):
        for name, share in term.shares.items():
            found[f"shares/{f'{number}-' if len(terms) > 1 else ''}{name}"] = share(*pair, **extra).mean()
    return found
