"""Rewards by name, the random one, and rows that a reward cannot score."""

from __future__ import annotations

import numpy as np
import pytest
from pair_files import A
from tiny import picture

import rewards
from mmpo.data.images import decode


def test_rewards_are_found_by_name_and_refused_by_name() -> None:
    assert {"random", "shapes"} <= rewards.names().keys()
    for name in ("random", "shapes"):
        assert rewards.load(name).name == name
    with pytest.raises(ValueError, match=r"reward: unknown name 'shape'; did you mean 'shapes'\? valid: .*random"):
        rewards.load("shape")
    with pytest.raises(ValueError, match=r"reward random: .*sede"):
        rewards.load("random", sede=3)
    with pytest.raises(ValueError, match=r"expected one of correct, .*got 'beauty'"):
        rewards.load("shapes", measure="beauty")


def test_random_labels_are_a_fixed_function_of_image_and_prompt() -> None:
    pictures = [decode(picture(i)) for i in range(300)]
    prompts = [f"prompt {i % 7}" for i in range(300)]
    values = rewards.load("random").score(pictures, prompts).values
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.05 < 0.95 < values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * (1 / 12 / 300) ** 0.5
    assert np.array_equal(values[::-1], rewards.load("random").score(pictures[::-1], prompts[::-1]).values)
    assert not np.array_equal(values, rewards.load("random", seed=1).score(pictures, prompts).values)
    assert values[0] == np.float32(rewards.load("random").score(pictures[:1], prompts[:1]).values[0])


def test_the_verifier_gives_a_failed_row_for_a_prompt_it_does_not_know() -> None:
    """Not 0: a caption outside the grammar says nothing of the picture."""
    scores = rewards.load("shapes").score([decode(A)] * 2, ["an oil painting of a cat", "a red circle"])
    assert np.isnan(scores.values).all()
    assert all(scores.errors)
    assert all(np.isnan(part).all() for part in scores.parts.values())
