"""`mmpo train` with checkpoints, data and output folders that it cannot use."""

from __future__ import annotations

from pathlib import Path

import command_line
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from command_line import Main, Result, assert_refused, last_line, shell

from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.records import Candidate, Group

main, recipe_file, tiny_recipe = command_line.main, command_line.recipe_file, command_line.tiny_recipe


def test_an_unusable_model_path(main: Main, recipe_file: Path, tmp_path: Path) -> None:
    def try_path(path: object) -> Result:
        return main("train", recipe_file, "--dry-run", f"model.path={path}")

    assert_refused(try_path(tmp_path / "nowhere"), "model.path", "nowhere", "no such folder")
    misspelt = "stable-diffusion-v1-5/stable-difusion-v1-5"
    assert_refused(try_path(misspelt), misspelt, "Did you mean 'stable-diffusion-v1-5/stable-diffusion-v1-5'?")
    assert_refused(try_path("model.safetensors"), "model.safetensors: no such file")
    assert_refused(try_path("model.ckpt"), "model.ckpt: a pickled checkpoint", "convert it to .safetensors")
    (tmp_path / "empty").mkdir()
    assert_refused(try_path(tmp_path / "empty"), "model_index.json is missing", "expected a diffusers folder")
    (tmp_path / "empty" / "model_index.json").write_text('{"_class_name": "MysteryPipeline"}')
    assert_refused(try_path(tmp_path / "empty"), "MysteryPipeline is not supported", "StableDiffusionPipeline")
    (tmp_path / "empty" / "model_index.json").write_text('{"_class_name": ')
    assert_refused(try_path(tmp_path / "empty"), "model_index.json is not valid JSON")


def test_a_missing_column(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "chosen": [b"x"]}), tmp_path / "pairs.parquet")
    result = main("train", tiny_recipe, "--dry-run", f"data.path={tmp_path / 'pairs.parquet'}", "data.format=pairs")
    assert_refused(result, "pairs.parquet", "missing: rejected", "found the columns prompt, chosen")


def test_a_missing_data_folder_in_a_process_of_its_own(tiny_recipe: Path, tmp_path: Path) -> None:
    result = shell("train", tiny_recipe, f"data.path={tmp_path / 'nowhere'}")
    assert_refused(Result(result.code, result.out, last_line(result.err)), "data.path", "nowhere", "no such file")
    assert "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def corrupt_pairs(tmp_path: Path) -> Path:
    """Four pairs; the rejected image of row 2 is cut off."""
    groups = tiny.make_groups(4)
    broken = Candidate(groups[2].candidates[1].image[:60])
    groups[2] = Group(groups[2].id, groups[2].prompt, [groups[2].candidates[0], broken])
    write_shard(tmp_path / "pairs", 0, [pair_row(group) for group in groups], pair_schema())
    return tmp_path / "pairs"


def test_a_corrupt_image_is_named_by_file_and_row(main: Main, tiny_recipe: Path, corrupt_pairs: Path) -> None:
    result = main("train", tiny_recipe, f"data.path={corrupt_pairs}", "data.on_bad_row=error")
    assert_refused(result, "shard-00000.parquet, row 2, rejected: the image is corrupt")


def test_a_skipped_image_is_counted_and_named(main: Main, tiny_recipe: Path, corrupt_pairs: Path) -> None:
    result = main("train", tiny_recipe, f"data.path={corrupt_pairs}", "evaluation.held_out_pairs=0")
    assert result.code == 0
    assert f"{corrupt_pairs}: 4 rows, left out: 1 bad" in result.out
    assert "warning: skipped" in result.out
    assert "shard-00000.parquet, row 2, rejected: the image is corrupt" in result.out
    assert "3 training pairs, 0 held out" in result.out
    assert result.out.splitlines()[-1] == f"next: mmpo report {tiny_recipe.parent / 'run'}"


def test_no_usable_pair_at_all(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [""], "chosen": [b"x"], "rejected": [b"y"]}), tmp_path / "pairs.parquet")
    result = main("train", tiny_recipe, f"data.path={tmp_path / 'pairs.parquet'}")
    assert_refused(result, "no training pairs are left", "pairs.parquet, row 0: column 'prompt' is empty")


def test_an_output_folder_that_holds_a_run(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-000004").mkdir(parents=True)
    result = main("train", tiny_recipe)
    assert_refused(result, "holds a run already (checkpoint-000004)", "add --resume", "output=FOLDER")


def test_an_output_folder_that_holds_a_finished_run_without_checkpoints(
    main: Main, tiny_recipe: Path, tmp_path: Path
) -> None:
    """People delete checkpoints to save space; the weights beside them took just as long."""
    (tmp_path / "run").mkdir()
    for name in ("train.json", "recipe.yaml", "pytorch_lora_weights.safetensors"):
        (tmp_path / "run" / name).write_text("{}")
    assert_refused(main("train", tiny_recipe, "data.path=/nowhere"), "holds a finished run", "output=FOLDER")


def test_resume_without_a_checkpoint(main: Main, tiny_recipe: Path, tmp_path: Path) -> None:
    assert_refused(main("train", tiny_recipe, "--resume"), "--resume: no checkpoint in", str(tmp_path / "run"))
