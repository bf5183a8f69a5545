"""What of a rollout is in half precision: the denoiser alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from sampling_parts import SPO, STEP_WISE, rollout_tree
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

import rewards
from mmpo.recipe_files import validate
from pipelines.train import train


@pytest.mark.parametrize("kind", ["d3po", "spo"])
def test_the_vae_and_the_rewards_are_not_under_the_denoisers_autocast(
    kind: str, sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDXL's VAE overflows in float16, and a score of 20 in bfloat16 is good to 0.1 alone."""
    seen: dict[str, set[bool]] = {"denoiser": set(), "vae": set(), "reward": set()}

    class Watching:
        name = "watching"

        def score(self, candidates: list[Any], prompts: list[str]) -> list[float]:
            seen["reward"].add(torch.is_autocast_enabled("cpu"))
            return [float(row) for row in range(len(prompts))]

    def note(module: nn.Module, arguments: Any) -> None:
        if isinstance(module, UNet2DConditionModel):
            seen["denoiser"].add(torch.is_autocast_enabled("cpu"))

    monkeypatch.setattr(rewards, "load", lambda name, **options: Watching())
    decode = AutoencoderKL.decode

    def decoding(self: Any, *args: Any, **given: Any) -> Any:
        seen["vae"].add(torch.is_autocast_enabled("cpu"))
        return decode(self, *args, **given)

    monkeypatch.setattr(AutoencoderKL, "decode", decoding)
    tree = rollout_tree(sd_folder, tmp_path / "run", train__steps=1, train__precision="bf16")
    tree["rollout"]["prompts_per_round"] = 2
    if kind == "spo":
        tree["rollout"] |= STEP_WISE
        tree["method"] = SPO
    hook = register_module_forward_pre_hook(note)
    try:
        train(validate(tree))
    finally:
        hook.remove()
    assert seen == {"denoiser": {True}, "vae": {False}, "reward": {False}}
