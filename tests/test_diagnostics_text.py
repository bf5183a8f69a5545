"""Diagnostics that need hidden states or a vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmpo.losses.diagnostics_text import ches, top_tokens

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0], dtype=torch.float64)
GOLDEN = [
    (1.0, [0.956658848248, 0.83870665165, 0.83239558184]),
    (3.0, [0.999876896061, 0.207119638808, 0.207022027673]),
]


@pytest.mark.parametrize(("sharpness", "expected"), GOLDEN)
def test_top_tokens_golden(sharpness: float, expected: list[float]) -> None:
    """p ∝ e², e, 1, e⁻¹, e⁻² (then its cube): the top three's mass, −Σ p·log p, and the same of p / mass.

    mass = (e² + e + 1) / (e² + e + 1 + e⁻¹ + e⁻²); H' = H/mass + log mass.
    """
    got = top_tokens(sharpness * LOGITS, k=3)
    assert [x.item() for x in got] == pytest.approx(expected, rel=1e-11)
    assert got.normalized_entropy.item() == pytest.approx(
        got.entropy.item() / got.mass.item() + math.log(got.mass.item()), rel=1e-9
    )


def test_top_tokens_of_many_positions() -> None:
    """[B, T, V] gives [B, T], in any order of the vocabulary, whatever is added to the logits, without gradient."""
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    got = top_tokens(logits, k=7)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for x, other in zip(got, top_tokens(logits[..., order] + 100, k=7), strict=True):
        assert x.shape == (2, 3)
        assert not x.requires_grad
        torch.testing.assert_close(x, other, rtol=1e-10, atol=1e-12)
    assert (got.mass <= 1).all()
    assert (got.normalized_entropy <= math.log(7)).all()


def test_top_tokens_at_the_ends() -> None:
    """The whole vocabulary has mass 1 and both entropies alike; equal tokens log k; a forbidden token adds nothing."""
    mass, entropy, normalized = top_tokens(LOGITS, k=5)
    assert mass.item() == pytest.approx(1)
    assert entropy.item() == pytest.approx(normalized.item())
    assert top_tokens(torch.zeros(9), k=4).normalized_entropy.item() == pytest.approx(math.log(4))
    forbidden = torch.tensor([0.0, 0.0, -math.inf])
    assert top_tokens(forbidden, k=3).entropy.item() == pytest.approx(math.log(2))
    assert top_tokens(LOGITS.bfloat16(), k=3).mass.dtype == torch.float32


@pytest.mark.parametrize("k", [0, 6])
def test_k_is_within_the_vocabulary(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k: expected 1 to 5, .* got {k}"):
        top_tokens(LOGITS, k=k)


CHOSEN = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]], dtype=torch.float64)
REJECTED = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.2, 0.1]]], dtype=torch.float64)


def everywhere(hidden: Tensor) -> Tensor:
    """A mask that is true at every position."""
    return torch.ones(hidden.shape[:2], dtype=torch.bool)


def similarity(chosen: Tensor, rejected: Tensor, *, length_normalized: bool = False) -> Tensor:
    """CHES with every position counted."""
    masks = {"chosen_mask": everywhere(chosen), "rejected_mask": everywhere(rejected)}
    return ches(chosen, rejected, **masks, length_normalized=length_normalized)


def test_ches_golden() -> None:
    """H_w = (1.5, 0.5), H_l = (1.2, 1.1): 1.8 + 0.55 − 2.5 = −0.15; by token 2.35/6 − 2.5/4 = −0.2333."""
    assert similarity(CHOSEN, REJECTED).item() == pytest.approx(-0.15)
    assert similarity(CHOSEN, REJECTED, length_normalized=True).item() == pytest.approx(-0.233333333333)
    for normalized in (False, True):
        assert similarity(REJECTED, REJECTED, length_normalized=normalized).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("length_normalized", [False, True])
def test_ches_does_not_see_padding(length_normalized: bool) -> None:
    """Prompt on the left, padding on the right, NaN in both: only the masked positions count."""
    chosen = torch.full((1, 6, 2), torch.nan, dtype=torch.float64)
    chosen[:, 2:4] = CHOSEN
    mask = torch.tensor([[False, False, True, True, False, False]])
    got = ches(
        chosen, REJECTED, chosen_mask=mask, rejected_mask=everywhere(REJECTED), length_normalized=length_normalized
    )
    assert torch.equal(got, similarity(CHOSEN, REJECTED, length_normalized=length_normalized))


def test_ches_of_a_batch_is_that_of_its_pairs_without_gradient() -> None:
    hidden = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    together = similarity(hidden[0], hidden[1])
    assert together.shape == (4,)
    assert not together.requires_grad
    alone = torch.cat([similarity(hidden[0, i : i + 1], hidden[1, i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_ches_refuses_what_does_not_fit() -> None:
    masks = {"chosen_mask": everywhere(CHOSEN), "rejected_mask": everywhere(REJECTED)}
    with pytest.raises(ValueError, match=r"chosen: expected hidden states, shape \[B, T, D\], got \[1, 2\]"):
        ches(CHOSEN[0][None, 0], REJECTED, **masks)
    with pytest.raises(ValueError, match=r"chosen_mask: expected .*shape \[1, 2\], got \[1, 3\]"):
        ches(CHOSEN, REJECTED, **{**masks, "chosen_mask": everywhere(REJECTED)})
    with pytest.raises(ValueError, match=r"rejected_mask: expected true or false \(torch.bool\), got torch.int64"):
        ches(CHOSEN, REJECTED, **{**masks, "rejected_mask": everywhere(REJECTED).long()})
    with pytest.raises(ValueError, match=r"rejected: expected as many pairs and features .*\[1, 2\], got \[1, 1\]"):
        ches(CHOSEN, REJECTED[..., :1], **masks)
