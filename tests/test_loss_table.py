"""The table that describes the losses, and what importing them loads."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from loss_cases import every_loss

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES


def test_table_and_functions_have_the_same_names() -> None:
    """A recipe can name exactly what can be computed."""
    assert LOSS_TABLE.keys() == LOSSES.keys()


@every_loss
def test_table_options_are_the_keyword_only_parameters(name: str) -> None:
    """`loss(policy, reference, *, ...)`, and the table knows each option, with defaults the function accepts."""
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    entry = LOSS_TABLE[name]
    of_the_family = {"scores", "mask"} if entry.family == "list" else set()
    assert rest.keys() == entry.options.keys() | entry.extra.keys() | entry.optional.keys() | of_the_family
    for option in entry.options.values():
        assert not option.fault(option.default)
        assert not option.fault(option.surrogate)


@every_loss
def test_what_was_not_verified_stands_in_the_docstring_too(name: str) -> None:
    words = " ".join((LOSSES[name].__doc__ or "").split())
    unverified = LOSS_TABLE[name].unverified
    assert (f"Not verified: {unverified}." in words) if unverified else ("Not verified:" not in words)


DEFAULTS = {  # of the sources, for log-likelihoods summed over tokens
    "dpo": {"beta": 0.1},
    "ipo": {"tau": 0.1, "length_normalized": False},
    "conservative_dpo": {"beta": 0.1, "epsilon": 0.1},
    "exo": {"beta": 0.1, "epsilon": 0.001},
    "dpop": {"beta": 0.3, "lam": 50.0},
    "flex_dpo": {"beta_chosen": 0.1, "beta_rejected": 0.08},
    "rpo": {"beta": 0.01, "eta": 0.005},
    "slic": {"delta": 1.0, "nll_weight": 0.1},
    "rso_hinge": {"gamma": 0.05},
    "triple_po": {"beta": 0.01, "alpha": 1.0, "gamma": 0.0, "length_normalized": False},
    "apo_momentum": {"beta": 0.1, "alpha": 0.3},
    "sppo": {"beta": 0.001},
    "gpo": {"beta": 0.001},
    "oreo": {"beta": 0.03, "alpha": 0.01},
    "step_dpo": {"beta": 0.4},
    "lipo_lambda": {"beta": 0.05},
    "pro": {"sft_weight": 0.05},
    "hpo": {"beta": 0.1, "gamma": 0.5, "lam": 5.0, "tau": 0.7},
    "mapo": {"margin_weight": 0.1, "horizon": 1000.0, "scale": 0.5},
    "sm_po": {"beta": 0.1, "gamma": 10.0},
}


def test_defaults_for_tokens_are_the_sources() -> None:
    """losses.md section 3 and diffusion.md section 5."""
    for name, expected in DEFAULTS.items():
        assert {option: bounds.default for option, bounds in LOSS_TABLE[name].options.items()} == expected, name


OWN_SCALE = {  # surrogate defaults that are not the token default in DPO's ratio of 0.1 to 5000, and why
    **dict.fromkeys(("cpo", "slic", "rso_hinge", "maximum_preference", "triple_po"), "no reference: a tenth"),
    "ipo": "tau is the strength beta of a DPO with the same slope",
    "diffusion_kto": "twice its source's 5000",
    "dspo": "of its source",
    "subject_rpo": "of its source",
    "step_dpo": "tokens only",
    "oreo": "tokens only",
    "oreo_value": "tokens only",
}


@every_loss
def test_defaults_for_denoisers_keep_the_ratio_to_dpo(name: str) -> None:
    """0.1 for tokens is 5000 for mean errors: what is per log-likelihood once is 50,000 times as much, and so on."""
    entry = LOSS_TABLE[name]
    if name in OWN_SCALE or entry.not_for_surrogates:
        return
    for option, bounds in entry.options.items():
        if bounds.per_logp and bounds.default != bounds.surrogate:
            assert bounds.surrogate == pytest.approx(bounds.default * 50_000**bounds.per_logp), option


def test_losses_load_torch_and_nothing_else() -> None:
    """The core can be used in any trainer: beyond what `import torch` brings, only mmpo and the standard library."""
    program = (
        "import sys, torch, torch.nn.functional\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import mmpo.losses, mmpo.losses.diagnostics\n"
        "after = {name.split('.')[0] for name in sys.modules}\n"
        "new = after - before - set(sys.stdlib_module_names) - {'mmpo'}\n"
        "assert not new, new\n"
        "heavy = {'diffusers', 'transformers', 'peft', 'accelerate', 'pydantic', 'yaml', 'rewards', 'pipelines'}\n"
        "assert not heavy & after, heavy & after\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_recipe_loads_no_torch() -> None:
    """A recipe is checked, and `--help` printed, before anything heavy is imported."""
    program = (
        "import sys, mmpo.recipe, mmpo.loss_table, mmpo.beta\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'numpy', 'rewards', 'pipelines'}\n"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
