"""β between the conventions of other tools and ours."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpo.beta import CONVENTIONS, equivalents, to_half_mean

SD15, SDXL = 4 * 64 * 64, 4 * 128 * 128


@pytest.mark.parametrize(
    ("beta", "convention", "elements", "expected"),
    [
        (5000.0, "half_mean", SD15, 5000.0),  # the official Diffusion-DPO code
        (2500.0, "mean", SD15, 5000.0),  # diffusers' scripts, without the ½
        (1.0, "half_sum", SD15, 16384.0),  # tools that sum over the latent: Stable Diffusion 1.5 at 512 pixels
        (1.0, "half_sum", SDXL, 65536.0),  # SDXL at 1024 pixels
    ],
)
def test_beta_of_other_tools(beta: float, convention: str, elements: int, expected: float) -> None:
    """Published defaults and latent sizes."""
    assert to_half_mean(beta, convention, elements) == expected


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_strength_in_every_convention_is_one_logit(convention: str) -> None:
    """Each convention's own formula on the same squared errors gives the same logit."""
    errors = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    formulas = {
        "half_mean": lambda beta: -beta / 2 * errors.mean(),
        "mean": lambda beta: -beta * errors.mean(),
        "half_sum": lambda beta: -beta / 2 * errors.sum(),
    }
    same = equivalents(5000.0, errors.numel())
    assert same.keys() == CONVENTIONS.keys() == formulas.keys()
    assert float(formulas[convention](same[convention])) == pytest.approx(-2500 * float(errors.mean()), rel=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.floats(1e-6, 1e6), st.integers(1, 10**6), st.sampled_from(sorted(CONVENTIONS)))
def test_beta_goes_there_and_back(beta: float, elements: int, convention: str) -> None:
    """`equivalents` is the inverse of `to_half_mean`."""
    assert to_half_mean(equivalents(beta, elements)[convention], convention, elements) == pytest.approx(beta)


def test_an_unknown_convention_is_refused() -> None:
    """By the recipe's name, with what is known."""
    with pytest.raises(ValueError, match=r"beta_convention: expected one of .*half_mean.*got 'sum'"):
        to_half_mean(1.0, "sum", SD15)
