"""`mmpo train` with spread weights ends in the files of an ordinary run."""

from __future__ import annotations

import json
from pathlib import Path

import forks
import tiny
import torch

from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints


def test_two_processes_save_whole_weights(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """The saved tensors are the last checkpoint's, whole, and a pipeline loads them."""
    from diffusers import StableDiffusionPipeline

    tree = tiny.recipe_tree(
        sd_folder,
        pairs_folder,
        tmp_path / "run",
        train__steps=2,
        train__checkpoint_every=2,
        train__distribution="fsdp2",
        model__lora=None,
    )
    (tmp_path / "recipe.json").write_text(json.dumps(tree))
    done = forks.ranks(2, forks.mmpo, "train", tmp_path / "recipe.json")
    assert done.code == 0, done
    weights = load_checkpoint(list_checkpoints(tmp_path / "run")[-1]).tensors["weights"]
    unet = StableDiffusionPipeline.from_pretrained(tmp_path / "run" / "pipeline").unet.state_dict()
    assert all(torch.equal(unet[name], tensor) for name, tensor in weights.items())
