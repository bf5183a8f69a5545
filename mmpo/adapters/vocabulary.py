"""Log-probabilities over a vocabulary in chunks: never all positions times the vocabulary at once, forward or backward.

With z = h·Wᵀ + b the logits of a position, p = softmax(z) the policy and r = softmax(z_ref) the reference:

    log p_y = z_y − logsumexp(z)                ∂/∂z = onehot(y) − p
    KL(r ‖ p) = Σ_v r_v (log r_v − log p_v)     ∂/∂z = p − r
    KL(p ‖ r) = Σ_v p_v (log p_v − log r_v)     ∂/∂z = p · (log p − log r − KL(p ‖ r))

The backward pass computes each chunk's logits again from h. Logits are made in the model's dtype, as its own head does,
and everything after them is float32 (float64 for float64).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024


class Head(NamedTuple):
    """States of M positions and the layer that makes logits of them.

    Args:
        states: [M, H], or the logits [M, V] themselves where there is no weight.
        weight: [V, H] or None.
        bias: [V] or None.
    """

    states: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    def detach(self) -> Head:
        """Without a way back for gradients."""
        return Head(*(None if x is None else x.detach() for x in self))  # type: ignore[arg-type]


class Scores(NamedTuple):
    """What a vocabulary's distribution says at M positions.

    Args:
        logps: [M, K] log-probabilities of the K asked tokens.
        kl: [M] KL(reference ‖ policy), with gradient to the policy; empty without a reference.
        reverse_kl: [M] KL(policy ‖ reference), likewise.
    """

    logps: Tensor
    kl: Tensor
    reverse_kl: Tensor


def score_tokens(head: Head, tokens: Tensor, reference: Head | None = None, *, chunk: int = CHUNK) -> Scores:
    """Log-probabilities of given tokens, and divergences from a reference where one is given.

    Args:
        head: of the policy, with gradient.
        tokens: [M, K] ids.
        reference: of the frozen model at the same positions, without gradient.
        chunk: positions at once.
    """
    head = _at_autocast(head)
    frozen = (None, None, None) if reference is None else tuple(_at_autocast(reference.detach()))
    with torch.autocast(head.states.device.type, enabled=False):
        return Scores(*_Score.apply(*head, tokens, *frozen, chunk))


@torch.no_grad()
def likeliest(head: Head, but: Tensor | None = None, *, chunk: int = CHUNK) -> Tensor:
    """[M] the likeliest token of each position.

    Args:
        but: [M] a token of each position that does not count.
    """
    head = _at_autocast(head)
    found = []
    with torch.autocast(head.states.device.type, enabled=False):
        for at in _chunks(len(head.states), chunk):
            logits = _logits(head, at)
            if but is not None:
                logits.scatter_(1, but[at, None], -torch.inf)
            found.append(logits.argmax(-1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.long, device=head.states.device)


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        tokens: Tensor,
        ref_states: Tensor | None,
        ref_weight: Tensor | None,
        ref_bias: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        head = Head(states, weight, bias)
        reference = None if ref_states is None else Head(ref_states, ref_weight, ref_bias)
        count = len(states)
        dtype = _precise(states.dtype)
        logps = states.new_empty(tokens.shape, dtype=dtype)
        sums = states.new_empty(count, dtype=dtype)
        kls = states.new_empty((2, 0 if reference is None else count), dtype=dtype)
        for at in _chunks(count, chunk):
            logits = _logits(head, at)
            sums[at] = logits.logsumexp(-1)
            logps[at] = logits.gather(1, tokens[at]) - sums[at, None]
            if reference is not None:
                logp, ref = logits.sub_(sums[at, None]), _logits(reference, at).log_softmax(-1)
                kls[0, at] = (ref.exp() * (ref - logp)).sum(-1)
                kls[1, at] = (logp.exp() * (logp - ref)).sum(-1)
        ctx.save_for_backward(states, weight, bias, tokens, ref_states, ref_weight, ref_bias, sums, kls)
        ctx.chunk = chunk
        return logps, kls[0].clone(), kls[1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, tokens, ref_states, ref_weight, ref_bias, sums, kls = ctx.saved_tensors
        by_logps, by_kl, by_reverse = grads
        head = Head(states, weight, bias)
        reference = None if ref_states is None else Head(ref_states, ref_weight, ref_bias)
        needs_states, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        dtype = _precise(states.dtype)
        to_states = torch.empty_like(states) if needs_states else None
        to_weight = torch.zeros_like(weight, dtype=dtype) if needs_weight else None
        to_bias = torch.zeros_like(bias, dtype=dtype) if needs_bias else None
        for at in _chunks(len(states), ctx.chunk):
            logp = _logits(head, at).sub_(sums[at, None])
            share = logp.exp()
            slope = share * -by_logps[at].sum(-1, keepdim=True)
            slope.scatter_add_(1, tokens[at], by_logps[at])
            if reference is not None:
                ref = _logits(reference, at).log_softmax(-1)
                slope += by_kl[at, None] * (share - ref.exp())
                slope += by_reverse[at, None] * share * (logp - ref - kls[1, at, None])
            slope = slope.to(states.dtype)
            if to_states is not None:
                to_states[at] = slope if weight is None else slope @ weight.to(states.dtype)
            if to_weight is not None:
                to_weight += (slope.T @ states[at]).to(dtype)
            if to_bias is not None:
                to_bias += slope.sum(0).to(dtype)
        to_weight = None if to_weight is None else to_weight.to(weight.dtype)
        to_bias = None if to_bias is None else to_bias.to(bias.dtype)
        return to_states, to_weight, to_bias, None, None, None, None, None


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _chunks(count: int, chunk: int) -> list[slice]:
    return [slice(at, min(at + chunk, count)) for at in range(0, count, chunk)]


def _logits(head: Head, at: slice) -> Tensor:
    """[m, V] in float32 or better, free to be written to."""
    states = head.states[at]
    if head.weight is None:
        return states.to(_precise(states.dtype), copy=True)
    bias = None if head.bias is None else head.bias.to(states.dtype)
    logits = F.linear(states, head.weight.to(states.dtype), bias)
    return logits.to(_precise(states.dtype))


def _at_autocast(head: Head) -> Head:
    """States in the dtype in which an active autocast would run the head."""
    device = head.states.device.type
    if head.weight is None or not torch.is_autocast_enabled(device) or head.states.dtype == torch.float64:
        return head
    return head._replace(states=head.states.to(torch.get_autocast_dtype(device)))
