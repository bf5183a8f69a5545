"""Chunked log-probabilities and divergences against the whole softmax, and what they keep in memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmpo.adapters.vocabulary import Head, likeliest, score_tokens

POSITIONS, WIDTH, WORDS = 11, 5, 13


def head(seed: int, *, bias: bool = True, dtype: torch.dtype = torch.float64, grad: bool = True) -> Head:
    draw = torch.Generator().manual_seed(seed)
    shapes = [(POSITIONS, WIDTH), (WORDS, WIDTH), (WORDS,)]
    tensors = [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]
    for tensor in tensors:
        tensor.requires_grad_(grad)
    return Head(tensors[0], tensors[1], tensors[2] if bias else None)


def whole(of: Head) -> Tensor:
    logits = of.states @ of.weight.T + (0 if of.bias is None else of.bias)
    return logits.log_softmax(-1)


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_scores_and_their_gradients_equal_the_whole_softmax(chunk: int, bias: bool) -> None:
    policy, frozen = head(0, bias=bias), head(1, bias=bias, grad=False)
    tokens = torch.randint(WORDS, (POSITIONS, 3), generator=torch.Generator().manual_seed(2))
    found = score_tokens(policy, tokens, frozen, chunk=chunk)
    logp, ref = whole(policy), whole(frozen)
    expected = (
        logp.gather(1, tokens),
        (ref.exp() * (ref - logp)).sum(-1),
        (logp.exp() * (logp - ref)).sum(-1),
    )
    for got, want in zip(found, expected, strict=True):
        assert torch.allclose(got, want, atol=1e-12)
    inputs = [x for x in policy if x is not None]
    slopes = [torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3)) for x in expected]
    got_slopes = torch.autograd.grad(found, inputs, slopes)
    for got, want in zip(got_slopes, torch.autograd.grad(expected, inputs, slopes), strict=True):
        assert torch.allclose(got, want, atol=1e-12)


def test_gradients_by_finite_differences() -> None:
    policy, frozen = head(0), head(1, grad=False)
    tokens = torch.arange(POSITIONS)[:, None]

    def scores(states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return tuple(score_tokens(Head(states, weight, bias), tokens, frozen, chunk=4))

    assert torch.autograd.gradcheck(scores, tuple(policy))


def test_by_hand() -> None:
    """Odds 3 : 1 : 1 : 1 have log-probabilities ln 1/2 and ln 1/6; from the uniform they diverge by Σ r ln(r/p)."""
    logits = torch.tensor([[math.log(3), 0.0, 0.0, 0.0]])
    found = score_tokens(Head(logits), torch.tensor([[0, 2]]), Head(torch.zeros(1, 4)))
    assert found.logps[0].tolist() == pytest.approx([math.log(1 / 2), math.log(1 / 6)])
    assert found.kl.item() == pytest.approx(0.25 * (math.log(0.5) + 3 * math.log(1.5)))
    assert found.reverse_kl.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_likeliest_token_and_the_likeliest_but_one() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0], [5.0, 1.0, 4.0]])
    assert likeliest(Head(logits)).tolist() == [1, 0]
    assert likeliest(Head(logits), torch.tensor([1, 1])).tolist() == [2, 0]
    assert logits[0].tolist() == [0.0, 3.0, 2.0]  # what is excluded is excluded in a copy


def test_a_frozen_head_gets_no_gradient_and_the_states_get_theirs() -> None:
    states, weight = torch.randn(3, 4, requires_grad=True), torch.randn(6, 4)
    score_tokens(Head(states, weight), torch.zeros(3, 1, dtype=torch.long)).logps.sum().backward()
    assert weight.grad is None
    assert states.grad is not None


def test_half_precision_gives_float32_and_survives_large_logits() -> None:
    policy = head(0, dtype=torch.bfloat16)
    found = score_tokens(policy._replace(states=policy.states * 100), torch.zeros(POSITIONS, 1, dtype=torch.long))
    assert found.logps.dtype == torch.float32
    assert found.logps.isfinite().all()
    found.logps.sum().backward()
    assert policy.weight.grad.dtype == torch.bfloat16


def test_nothing_of_the_size_of_all_logits_is_kept_or_made() -> None:
    """With 4096 positions and 1000 words no tensor of the pass has more than a chunk of 64 rows of logits."""
    states, weight = torch.randn(4096, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    largest: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            largest.append(max((x.numel() for x in (out,) if isinstance(x, Tensor)), default=0))
            return out

    with Watch():
        score_tokens(Head(states, weight), torch.zeros(4096, 1, dtype=torch.long), chunk=64).logps.sum().backward()
    assert max(largest) == 64 * 1000


def test_no_positions_are_no_scores() -> None:
    states = torch.randn(0, 4, requires_grad=True)
    found = score_tokens(Head(states, torch.randn(6, 4)), torch.zeros(0, 2, dtype=torch.long))
    found.logps.sum().backward()
    assert found.logps.shape == (0, 2)
    assert likeliest(Head(states.detach())).shape == (0,)
