"""Rewards by name, the random one, and rows that a reward cannot score."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from pair_files import A
from tiny import picture

import rewards
from mmpo.data.images import decode
from rewards.table import REWARD_TABLE

ROOT = Path(__file__).parent.parent


def test_rewards_are_found_by_name_and_refused_by_name() -> None:
    assert {"random", "shapes"} <= rewards.names().keys()
    for name in ("random", "shapes"):
        assert rewards.load(name).name == name
    with pytest.raises(ValueError, match=r"reward: unknown name 'shape'; did you mean 'shapes'\? valid: .*random"):
        rewards.load("shape")
    with pytest.raises(ValueError, match=r"reward random: unknown option 'sede'; did you mean 'seed'\? valid: seed"):
        rewards.load("random", sede=3)
    with pytest.raises(ValueError, match=r"expected one of correct, .*got 'beauty'"):
        rewards.load("shapes", measure="beauty")


@pytest.mark.parametrize("name", REWARD_TABLE)
def test_the_table_has_every_option_and_its_default_number(name: str) -> None:
    """A recipe is checked against the table, before anything heavy is imported."""
    entry = REWARD_TABLE[name]
    module, _, attribute = entry.target.partition(":")
    made = getattr(import_module(module), attribute)
    assert set(inspect.signature(made).parameters) == set(entry.options)
    for option, parameter in inspect.signature(made).parameters.items():
        if isinstance(parameter.default, bool | int | float):
            assert f"default: {str(parameter.default).lower()}" in entry.options[option].lower()


def test_another_packages_reward_is_found_and_checks_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("sharpness", "builtins:dict", rewards.GROUP)
    monkeypatch.setattr(rewards, "entry_points", lambda group: [point])
    assert rewards.names()["sharpness"] == "builtins:dict"
    assert rewards.load("sharpness", radius=3) == {"radius": 3}
    point = EntryPoint("sharpness", "builtins:abs", rewards.GROUP)
    with pytest.raises(ValueError, match=r"reward sharpness: .*keyword"):
        rewards.load("sharpness", radius=3)


def test_the_table_needs_nothing_heavy_and_the_contract_is_there_when_asked_for() -> None:
    program = (
        "import sys, rewards\n"
        "from rewards.table import REWARD_TABLE\n"
        "rewards.check('clip', {'scale': 'cos'})\n"
        "print(sorted({'torch', 'numpy', 'PIL'} & sys.modules.keys()), rewards.Response.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[] Response"
    assert not hasattr(rewards, "Respons")


def test_random_labels_are_a_fixed_function_of_image_and_prompt() -> None:
    pictures = [decode(picture(i)) for i in range(300)]
    prompts = [f"prompt {i % 7}" for i in range(300)]
    values = rewards.load("random").score(pictures, prompts).values
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.05 < 0.95 < values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * (1 / 12 / 300) ** 0.5
    assert np.array_equal(values[::-1], rewards.load("random").score(pictures[::-1], prompts[::-1]).values)
    assert not np.array_equal(values, rewards.load("random", seed=1).score(pictures, prompts).values)
    with pytest.raises(ValueError, match="seed: expected a whole number, got 'a'"):
        rewards.load("random", seed="a")
    assert values[0] == np.float32(rewards.load("random").score(pictures[:1], prompts[:1]).values[0])


def test_the_verifier_gives_a_failed_row_for_a_prompt_it_does_not_know() -> None:
    """Not 0: a caption outside the grammar says nothing of the picture."""
    scores = rewards.load("shapes").score([decode(A)] * 2, ["an oil painting of a cat", "a red circle"])
    assert np.isnan(scores.values).all()
    assert all(scores.errors)
    assert all(np.isnan(part).all() for part in scores.parts.values())
