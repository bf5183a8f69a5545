"""Single-file checkpoints: the same weights as the folder's, and errors for files that are something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from single_files import write_single_file

from mmpo.models.checkpoint import read_config
from mmpo.models.loading import checkpoint_hash, load_pipeline
from mmpo.models.single_file import clip_tokenizer
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from pipelines.dry_run import describe
from pipelines.train import train

SHAPES = Path(tiny.__file__).parent.parent / "mmpo" / "shapes" / "checkpoints" / "sd"
V1_KEY = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
V2_KEY = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path) -> Path:
    """The tiny checkpoint as one file."""
    return write_single_file(sd_folder, tmp_path_factory.mktemp("single") / "tiny.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_weight_is_the_folders(single: Path, sd_folder: Path, dtype: torch.dtype) -> None:
    from_folder = load_pipeline(read_config(str(sd_folder)), dtype=dtype)
    from_file = load_pipeline(read_config(str(single), config=str(sd_folder)), dtype=dtype)
    assert checkpoint_hash(from_file) == checkpoint_hash(from_folder)
    assert from_file.vae.dtype == torch.float32


def test_the_built_in_checkpoint_too(tmp_path: Path) -> None:
    """Another architecture: more levels, attention elsewhere; `config` takes a built-in name as well."""
    file = write_single_file(SHAPES, tmp_path / "shapes.safetensors")
    loaded = load_pipeline(read_config(str(file), config="shapes/sd"), dtype=torch.float32)
    expected = load_pipeline(read_config("shapes/sd"), dtype=torch.float32)
    assert checkpoint_hash(loaded) == checkpoint_hash(expected)


def test_the_first_losses_are_the_folders(single: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    losses = []
    for name, model in (
        ("folder", {"path": str(sd_folder)}),
        ("file", {"path": str(single), "config": str(sd_folder)}),
    ):
        tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / name, train__steps=2)
        tree["model"] |= model
        train(validate(tree))
        losses.append([line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


def test_a_dry_run_reads_the_configs_only(single: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run")
    tree["model"] |= {"path": str(single), "config": str(sd_folder)}
    assert any(str(single) in line and "configs: folder" in line for line in describe(validate(tree)))


def test_configs_of_the_usual_kind_need_no_network(single: Path) -> None:
    """A v1 file without model.config takes Stable Diffusion 1.5's; this one is too small for them, and it says so."""
    config = read_config(str(single))
    assert config.source == "shipped with mmpo"
    assert config.resolution == 512
    with pytest.raises(ValueError, match=r"tiny\.safetensors: does not fit the configs of .*model\.config"):
        load_pipeline(config, dtype=torch.float32)


def test_the_clip_tokenizer_is_complete() -> None:
    """Ids of OpenAI's CLIP vocabulary: 49,408 tokens, "a photo of a cat" as its paper's code encodes it."""
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.pad_token_id == 49407


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["unet.down.lora_A.weight"], "this is a LoRA.*model.lora.start"),
        (["model.diffusion_model.out.0.weight"], "no text encoder that is known"),
        (["encoder.conv_in.weight"], "not a whole checkpoint.*encoder.conv_in.weight"),
        ([V2_KEY, "first_stage_model.x"], "Stable Diffusion 2 checkpoint; set model.config"),
        ([V1_KEY], "it holds no VAE"),
        ([V1_KEY, "first_stage_model.x", "v_pred"], "marked as predicting v, .* set model.config"),
    ],
    ids=["lora", "denoiser alone", "vae", "v2", "no vae", "v"],
)
def test_other_files_are_named(tmp_path: Path, names: list[str], message: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(ValueError, match=rf"other\.safetensors: .*{message}"):
        read_config(str(file))


def test_broken_missing_and_pickled_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match=r"cut\.safetensors: not a readable safetensors file"):
        read_config(str(tmp_path / "cut.safetensors"))
    with pytest.raises(ValueError, match=r"absent\.safetensors: no such file"):
        read_config(str(tmp_path / "absent.safetensors"))
    with pytest.raises(ValueError, match=r"old\.ckpt: a pickled checkpoint can run code"):
        read_config(str(tmp_path / "old.ckpt"))


def test_tensors_that_are_missing_are_named(single: Path, sd_folder: Path, tmp_path: Path) -> None:
    tensors = load_file(single)
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"cut\.safetensors: does not fit .*: the file lacks tensors"):
        load_pipeline(read_config(str(tmp_path / "cut.safetensors"), config=str(sd_folder)), dtype=torch.float32)


def test_config_is_for_single_files_only(sd_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.config: only a single \.safetensors file needs it"):
        read_config(str(sd_folder), config="some/model")
