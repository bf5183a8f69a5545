"""Shared fixtures: tiny checkpoints and pairs, made once a session; no network."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

pytest.register_assert_rewrite("command_line", "surrogates", "log_ratios")

import tiny  # noqa: E402


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Stable Diffusion, ε-prediction."""
    return tiny.make_sd(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four random pairs."""
    return tiny.make_pairs(tmp_path_factory.mktemp("data") / "pairs")
