"""Other names of losses: what they resolve to, and what is said of a name that several papers share."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

import mmpo.loss_entries
from mmpo.loss_names import ALIASES, AMBIGUOUS, explain, resolve

MODULES = [
    importlib.import_module(f"mmpo.loss_entries.{m.name}") for m in pkgutil.iter_modules(mmpo.loss_entries.__path__)
]
NAMES = [name for module in MODULES for name in module.ENTRIES]


def test_no_two_files_have_a_loss_of_the_same_name_whatever_its_spelling() -> None:
    """Names are compared without case and punctuation when they are resolved."""
    plain = [name.replace("_", "").lower() for name in NAMES]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_one_loss_of_ours_and_no_name_of_one(alias: str) -> None:
    assert ALIASES[alias] in NAMES
    assert alias not in NAMES, "the loss itself would never be found by it"
    assert alias not in AMBIGUOUS
    assert resolve(alias, NAMES) == ALIASES[alias]
    assert explain(alias) == f"'{alias}' is {ALIASES[alias]} here"


@pytest.mark.parametrize("name", NAMES)
def test_an_exact_name_wins(name: str) -> None:
    assert resolve(name, NAMES) == name
    assert resolve(name.upper().replace("_", "-"), NAMES) == name
    assert resolve(name.replace("_", ""), NAMES) == name


@pytest.mark.parametrize(
    ("typed", "ours"), [("DPO", "dpo"), ("Step-DPO", "step_dpo"), ("rankdpo", "rank_dpo"), ("cDPO", "conservative_dpo")]
)
def test_spellings_of_papers(typed: str, ours: str) -> None:
    assert resolve(typed, NAMES) == ours


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_shared_name_lists_its_methods_or_is_one_of_ours(name: str) -> None:
    choices = AMBIGUOUS[name]
    assert len(choices) >= 2
    assert all(ours in NAMES for choice in choices for ours in choice.ours)
    assert all(re.fullmatch(r"(\d{4}\.\d{5})?", choice.paper) for choice in choices)
    if name in NAMES:
        assert resolve(name, NAMES) == name
        others = [choice for choice in choices if name not in choice.ours]
        assert len(others) == len(choices) - 1
    else:
        others = list(choices)
        with pytest.raises(ValueError, match=rf"^'{name}' names several methods") as error:
            resolve(name, NAMES)
        assert all(choice.line() in str(error.value) for choice in choices)
    assert all(choice.line() in explain(name) for choice in others)


def test_choices_say_name_title_and_paper() -> None:
    with pytest.raises(ValueError, match="names several") as error:
        resolve("rDPO", NAMES)
    message = str(error.value)
    assert "robust_dpo: Provably robust DPO (arXiv 2403.00409)" in message
    assert "rationale_dpo: " in message
    assert "not built: Re-Align, retrieval-augmented DPO (arXiv 2502.13146)" in message


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown name 'simop'; did you mean 'simpo'\?"):
        resolve("simop", NAMES)
    assert explain("simop") == ""
    assert explain("dpo") == ""


def test_names_resolve_within_the_table_that_is_given() -> None:
    """A table without the loss behind an alias does not know the alias."""
    assert resolve("cdpo", ["conservative_dpo"]) == "conservative_dpo"
    with pytest.raises(ValueError, match="unknown name 'cdpo'"):
        resolve("cdpo", ["dpo_x"])


def test_names_load_no_torch() -> None:
    program = "import sys, mmpo.loss_names, mmpo.citations\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
