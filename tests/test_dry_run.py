"""Dry runs: what a recipe means, and all that training or evaluation would fail on."""

from __future__ import annotations

from pathlib import Path

import command_line
import forks
import pytest
import tiny
from command_line import Main, assert_refused

from mmpo.models.checkpoint import read_config
from mmpo.recipe_files import load_recipe, parse_yaml, validate
from pipelines.dry_run import describe
from pipelines.train import train

main, tiny_recipe = command_line.main, command_line.tiny_recipe

SD15_UNET = 859_520_964
# Rank x (14 c + 2 x 768) per transformer block (to_q, to_k, to_v, to_out of self- and cross-attention), of which
# Stable Diffusion 1.5 has 5, 5 and 6 with c = 320, 640 and 1280. At rank 4 that is the 797,184 known from diffusers.
SD15_LORA_16 = 16 * sum(blocks * (14 * c + 2 * 768) for blocks, c in ((5, 320), (5, 640), (6, 1280)))


def test_a_dry_run_of_stable_diffusion_needs_no_weights_and_no_network(tmp_path: Path) -> None:
    result = forks.call(
        forks.mmpo, "train", "sd15_diffusion_dpo", "--dry-run", f"data.path={tmp_path / 'pickapic'}", where=tmp_path
    )
    assert (result.code, result.err) == (0, "")
    assert f"trains       {SD15_LORA_16:,} of {SD15_UNET:,} parameters of the unet" in result.out
    assert "beta         5000 (half_mean), 2500 (mean), 0.305176 (half_sum)" in result.out
    assert "512 pixels, 16384 latent numbers" in result.out
    assert "then: mmpo train sd15_diffusion_dpo" in result.out
    resolved = validate(parse_yaml(result.out.partition("\n\n")[0], "shown"))
    assert resolved == load_recipe("sd15_diffusion_dpo", [f"data.path={tmp_path / 'pickapic'}"])
    assert not list(tmp_path.iterdir())


SDXL_LORA_8 = 8 * sum(blocks * (14 * c + 2 * 2048) for blocks, c in ((10, 640), (60, 1280)))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "sdxl_diffusion_dpo",
            [f"trains       {SDXL_LORA_8:,} of 2,567,463,684 parameters of the unet", "65536 latent"],
        ),
        ("sdxl_mapo", ["method       mapo x Denoising", f"trains       {SDXL_LORA_8:,} of"]),
        (
            "sd3_diffusion_dpo",
            ["method       dpo x Flow x AdaptersOff", "predicts flow", "beta         500 (half_mean)"],
        ),
        (
            "sdxl_rank_dpo",
            ["rank_dpo x Denoising x FrozenCopy", "5000 (half_mean), 2500 (mean)", "400 of 1024 lists", "65536 latent"],
        ),
        ("sd3_rank_dpo", ["rank_dpo x Flow x FrozenCopy", "500 (half_mean), 250 (mean)", "400 of 1024 lists"]),
        (
            "sd21_dcpo",
            ["865,910,724 of 865,910,724 parameters", "predicts v_prediction", "dpo x Denoising x FrozenCopy"],
        ),
    ],
)
def test_recipes_of_papers_need_no_weights_and_no_network(main: Main, name: str, lines: list[str]) -> None:
    """2,567,463,684 and 865,910,724 are the published sizes of SDXL's and Stable Diffusion 2.1's UNet."""
    result = main("train", name, "--dry-run")
    assert result.code == 0
    assert "configs: shipped with mmpo" in result.out
    assert all(line in result.out for line in lines)


def test_stable_diffusion_2_1_is_known_by_both_names() -> None:
    one, two = (read_config(f"{owner}/stable-diffusion-2-1") for owner in ("stabilityai", "sd2-community"))
    assert (one.denoiser, one.scheduler, one.path) == (two.denoiser, two.scheduler, "stabilityai/stable-diffusion-2-1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data.buckets=true"], "buckets      5 sizes, 640x384 to 384x640 (width x height)"),
        (["model.lora.rank=4"], "trains       797,184 of 859,520,964 parameters"),
        (["model.lora=null", "method.reference=auto"], "trains       859,520,964 of 859,520,964 parameters"),
        (["model.lora=null", "method.reference=auto"], "method       dpo x Denoising x FrozenCopy"),
        (["method={loss: sft}"], "method       sft x Denoising x AdaptersOff"),
        (["method.beta_convention=mean", "method.beta=2500"], "beta         5000 (half_mean), 2500 (mean), 0.305176"),
        (["method.beta_convention=half_sum", "method.beta=1"], "beta         16384 (half_mean), 8192 (mean), 1 (half"),
        (["data.resolution=1024"], "resolution   1024 pixels, 65536 latent numbers"),
    ],
    ids=["buckets", "rank 4", "full", "full reference", "sft", "mean", "half_sum", "resolution"],
)
def test_a_dry_run_says_what_the_recipe_means(main: Main, arguments: list[str], line: str) -> None:
    result = main("train", "sd15_diffusion_dpo", "--dry-run", *arguments)
    assert result.code == 0
    assert line in result.out


def test_the_line_after_a_dry_run_repeats_what_was_asked_for(main: Main) -> None:
    """Copied as it stands, it must train what the dry run described."""
    result = main("train", "sd15_diffusion_dpo", "--dry-run", "model.lora.rank=8", "output=runs/other")
    assert result.out.splitlines()[-1] == "nothing was run; next: mmpo train sd15_diffusion_dpo " + (
        "model.lora.rank=8 output=runs/other"
    )


def test_a_dry_run_names_the_format_of_data_that_is_there(main: Main, tiny_recipe: Path, pairs_folder: Path) -> None:
    result = main("train", tiny_recipe, "--dry-run")
    assert result.code == 0
    assert f"data         {pairs_folder}: format pairs" in result.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["evaluation.prompts=absent.txt"], ["no file 'absent.txt'", "a prompt a line"]),
        (["evaluation.prompts=shapes/validation"], ["no split 'validation'", "train, tune, test"]),
        (["evaluation.rewards=[rondom]"], ["did you mean 'random'?"]),
        (["evaluation.rewards=[{name: hpsv2, fest: true}]"], ["reward hpsv2: ", "'fest'; did you mean 'fast'?"]),
        (["data.make.prompts=absent.txt", "data.make.reward=random"], ["no file 'absent.txt'"]),
        (["data.make.prompts=shapes/tune", "data.make.reward=rondom"], ["did you mean 'random'?"]),
        (["method.adapter=flow"], ["method.adapter", "'flow' does not fit", "use 'denoising'"]),
        (["model.lora.targets=[to_z]"], ["model.lora.targets", "no module of the unet", "to_z"]),
        (["data.resolution=1"], ["data.resolution"]),
    ],
    ids=["prompts", "split", "reward", "option", "make prompts", "make reward", "adapter", "targets", "resolution"],
)
def test_a_dry_run_finds_what_training_or_evaluation_would_fail_on(
    main: Main, tiny_recipe: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_refused(main("train", tiny_recipe, "--dry-run", *arguments), *parts)


def test_a_lora_to_start_from_says_what_is_trained(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """The file decides, not the recipe's rank and targets; nothing of it is loaded."""
    from safetensors.torch import load_file

    first = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "first", train__steps=1)
    first["model"]["lora"] = {"rank": 3, "targets": "attention_convolutions"}
    folder = train(validate(first))
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "second")
    tree["model"]["lora"] = {"start": str(folder)}
    lines = list(describe(validate(tree)))
    numbers = sum(t.numel() for t in load_file(folder / "pytorch_lora_weights.safetensors").values())
    assert any(line.startswith("starts from") and "rank 3" in line for line in lines)
    assert any(line.startswith(f"trains       {numbers:,} of") for line in lines)
    assert any(line.startswith("method") and "FrozenAdapter" in line for line in lines)
