"""A run's loss over branches: each term on the rows that have its branches, fed from shared log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmpo.answer_batch import AnswerBatch, TokenLogps
from mmpo.losses.types import PairLogps

Scores = Mapping[str, TokenLogps]
ACTIVATION = "activation"
"""What the adapter calls the mean of the state behind a token's prediction."""


@dataclass(frozen=True)
class AnswerTerm:
    """One loss over branches.

    Args:
        name: of the loss.
        loss: `(policy, reference, ...) -> [N]`, options bound.
        chosen, rejected: (branch, what is read of it: "" for log-likelihoods, else a name of `TokenLogps.extra`).
        branches: that a row must have, those of the sides among them.
        extra: its further tensors by argument.
        weight: multiplies it.
        by_token: takes log-probabilities of tokens [N, T] in place of sums.
        one_sided: looks at the chosen side only.
        z0: of points, which baseline they have: "z0", of the same answers, or "mismatched_z0", of other rows' answers;
            empty for pairs. A point loss is called with both sides, the chosen desirable and the rejected not.
        token_weights: of what `*_reward_weight` and `*_kl_weight` are made: "activations" of the reference, or the
            "segments" of the data.
    """

    name: str
    loss: Callable[..., Tensor]
    chosen: tuple[str, str]
    rejected: tuple[str, str]
    branches: tuple[str, ...]
    extra: tuple[str, ...] = ()
    weight: float = 1.0
    by_token: bool = False
    one_sided: bool = False
    z0: str = ""
    token_weights: str = "activations"


@dataclass(frozen=True)
class BothScores:
    """What policy and reference say of a batch's branches; the policy's has a gradient."""

    batch: AnswerBatch
    policy: Scores
    reference: Scores | None


@dataclass(frozen=True)
class TermValue:
    """A term on the N rows that have its branches.

    Args:
        rows: [N] which of the batch's rows.
        loss: [N], weight not applied.
        sides: (policy's chosen, policy's rejected, reference's chosen, reference's rejected) [N] each, sums over
            tokens, detached; None where there is no reference.
    """

    rows: Tensor
    loss: Tensor
    sides: tuple[Tensor, Tensor, Tensor, Tensor] | None = field(default=None)


def wanted(terms: Sequence[AnswerTerm], *, of_reference: bool) -> dict[str, list[str]]:
    """Per branch what else than log-likelihoods of its tokens the terms read, as the adapter is asked for it."""
    asked: dict[str, list[str]] = {}
    for term in terms:
        for branch, read in (term.chosen, term.rejected):
            if read and read not in asked.setdefault(branch, []):
                asked[branch].append(read)
        for name, (branch, _) in (("chosen_kl", term.chosen), ("rejected_kl", term.rejected)):
            if name in term.extra and not of_reference and "kl" not in asked.setdefault(branch, []):
                asked[branch].append("kl")
        if of_reference and _weighs_by_activations(term):
            for branch, _ in (term.chosen, term.rejected):
                if ACTIVATION not in asked.setdefault(branch, []):
                    asked[branch].append(ACTIVATION)
    return {branch: names for branch, names in asked.items() if names}


def _weighs_by_activations(term: AnswerTerm) -> bool:
    return "chosen_reward_weight" in term.extra and term.token_weights == "activations"


def needs_divergence(terms: Sequence[AnswerTerm]) -> bool:
    """Whether the reference's states must be kept for the policy's forward."""
    return any(name in ("chosen_kl", "rejected_kl") for term in terms for name in term.extra)


def rows_of(term: AnswerTerm, batch: AnswerBatch) -> Tensor:
    """[N] the batch's rows that have all branches of a term, in order."""
    present = torch.ones(len(batch.ids), dtype=torch.bool)
    for name in term.branches:
        has = torch.zeros_like(present)
        if name in batch.branches:
            has[batch.branches[name].rows] = True
        present &= has
    return present.nonzero().squeeze(1)


def term_value(term: AnswerTerm, both: BothScores, z0: Tensor | None = None) -> TermValue | None:
    """A term's loss on the rows that have its branches; None where no row has.

    Args:
        z0: [] the baseline of points.
    """
    rows = rows_of(term, both.batch)
    if not len(rows):
        return None
    policy = _pair(term, both.policy, rows)
    reference = _pair(term, both.reference, rows) if both.reference is not None else None
    if z0 is not None:
        assert reference is not None
        loss = _of_points(term, policy, reference, z0)
    else:
        loss = term.loss(policy, reference, **{name: _feed(name, term, both, rows) for name in term.extra})
    if reference is None:
        return TermValue(rows, loss)
    sums = [x.detach().sum(-1) if x.dim() == 2 else x.detach() for x in (*policy[:2], *reference[:2])]
    return TermValue(rows, loss, (sums[0], sums[1], sums[2], sums[3]))


def _of_points(term: AnswerTerm, policy: PairLogps, reference: PairLogps, z0: Tensor) -> Tensor:
    """[N] the mean of a point loss over a row's two answers."""
    flat = [torch.cat(sides[:2]) for sides in (policy, reference)]
    desirable = torch.arange(len(flat[0]), device=z0.device) < len(policy.chosen)
    return term.loss(*flat, desirable=desirable, z0=z0).view(2, -1).mean(0)


def _no_loss(*given: object, **options: object) -> Tensor:
    raise AssertionError("only its branches are read")


MISMATCHED = AnswerTerm("", _no_loss, ("chosen", ""), ("rejected", ""), ())
"""Both answers of rows that have one another's."""


def log_ratios(term: AnswerTerm, both: BothScores) -> tuple[Tensor, Tensor]:
    """(policy's, reference's) log-likelihoods of a term's answers, of both sides, without gradient; perhaps none."""
    rows = rows_of(term, both.batch)
    if not len(rows) or both.reference is None:
        return torch.zeros(0), torch.zeros(0)
    policy, reference = (torch.cat(_pair(term, scores, rows)[:2]) for scores in (both.policy, both.reference))
    return policy.detach(), reference


def _pair(term: AnswerTerm, scores: Scores, rows: Tensor) -> PairLogps:
    sides = (term.chosen, term.chosen if term.one_sided else term.rejected)
    if term.by_token:
        chosen, rejected = (scores[branch].logps[_at(scores[branch], rows)] for branch, _ in sides)
        return PairLogps(chosen, rejected)
    chosen, rejected = (_sums(scores, branch, rows, read) for branch, read in sides)
    lengths = [scores[branch].lengths[_at(scores[branch], rows)] for branch, _ in sides]
    return PairLogps(chosen, rejected, *lengths)


def _at(scores: TokenLogps, rows: Tensor) -> Tensor:
    """[N] where these rows of the batch stand among the branch's."""
    return torch.searchsorted(scores.rows.cpu(), rows).to(scores.logps.device)


def _sums(scores: Scores, branch: str, rows: Tensor, read: str = "") -> Tensor:
    """[N] weighted sums over tokens."""
    found = scores[branch]
    return (found.total(read) if read else found.sums)[_at(found, rows)]


def _token_weights(term: AnswerTerm, both: BothScores, side: str, rows: Tensor) -> Tensor:
    """[N, T] SparsePO's m_u and m_d, which are one: MaPO's, or the data's segments'."""
    if term.token_weights == "segments":
        found = both.policy[side]
        return found.weights[_at(found, rows)]
    assert both.reference is not None
    found = both.reference[side]
    at = _at(found, rows)
    return rescaled(found.extra[ACTIVATION][at], found.mask[at])


def rescaled(values: Tensor, mask: Tensor) -> Tensor:
    """[N, T] to 0 to 1 in each row: (a − min) / (max − min) over its tokens; 1 where all are the same, 0 off the mask.

    MaPO standardises before, which this undoes.
    """
    low = values.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    spread = high - low
    found = torch.where(spread > 0, (values - low) / spread.where(spread > 0, 1), 1)
    return found.where(mask, 0)


def _feed(name: str, term: AnswerTerm, both: BothScores, rows: Tensor) -> Tensor:
    """A further tensor of a loss: of another branch, a divergence, a mask, or a column of the data."""
    side = term.chosen[0] if name.startswith("chosen") else term.rejected[0]
    if name in ("chosen_kl", "rejected_kl"):
        if term.by_token:
            found = both.policy[side]
            return found.extra["kl"][_at(found, rows)]
        return _sums(both.policy, side, rows, "kl")
    if name.endswith(("_reward_weight", "_kl_weight")):
        return _token_weights(term, both, side, rows)
    if name in ("chosen_mask", "rejected_mask"):
        found = both.policy[side]
        return (found.mask & (found.weights > 0))[_at(found, rows)]
    if name == "reference_visual":
        assert both.reference is not None
        return _sums(both.reference, "visual", rows)
    branch = {"visual": "visual", "prior_chosen": "prior", "prior_rejected": "prior_rejected"}.get(name)
    if branch is not None:
        return _sums(both.policy, branch, rows)
    return both.batch.extra[name][rows].to(both.policy[side].logps.device)
