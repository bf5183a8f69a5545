"""The LoRA file: every tensor of it reaches a fresh pipeline, whatever kinds of layers it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline
from mmpo.models.lora import add_lora
from mmpo.models.saving import LORA_FILE, load_lora, save_lora
from mmpo.recipe import Lora


def saved(folder: Path, model: str, targets: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """A LoRA with random weights, saved; its tensors by name."""
    config = read_config(model)
    pipeline = load_pipeline(config, dtype=torch.float32)
    add_lora(pipeline.unet, Lora(rank=2, targets=targets), config.family, seed=0)  # type: ignore[arg-type]
    for name, parameter in pipeline.unet.named_parameters():
        if "lora_" in name:
            parameter.data.normal_()
    save_lora(folder, type(pipeline), "unet", pipeline.unet, {"base_model": model})
    own = {name.replace(".default", ""): p.data for name, p in pipeline.unet.named_parameters() if "lora_" in name}
    return folder, own


@pytest.mark.parametrize("targets", ["attention", "attention_convolutions"])
@pytest.mark.parametrize("first", ["CrossAttnDownBlock2D", "DownBlock2D"])
def test_every_tensor_arrives(first: str, targets: str, tmp_path: Path) -> None:
    """diffusers decides by a file's first key how to read it, so the order of blocks must not matter."""
    model = str(tiny.make_sd(tmp_path / "sd", first_block=first))
    folder, own = saved(tmp_path / "run", model, targets)
    pipeline = load_pipeline(read_config(model), dtype=torch.float32)
    load_lora(pipeline, pipeline.unet, folder)
    arrived = {n.replace(".default_0", ""): t for n, t in pipeline.unet.state_dict().items() if "lora_" in n}
    assert arrived.keys() == own.keys()
    assert all(torch.equal(arrived[name], own[name]) for name in own)


def test_a_foreign_lora_is_refused(tmp_path: Path, sd_folder: Path) -> None:
    """A tensor that the model has no place for is named, never left out in silence."""
    folder, _ = saved(tmp_path / "run", str(sd_folder), "attention")
    tensors = load_file(folder / LORA_FILE)
    name = next(iter(tensors))
    tensors[name.replace("down_blocks.0", "down_blocks.7")] = tensors.pop(name)
    save_file(tensors, folder / LORA_FILE)
    pipeline = load_pipeline(read_config(str(sd_folder)), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"do not fit the base model, the first is down_blocks"):
        load_lora(pipeline, pipeline.unet, folder)
