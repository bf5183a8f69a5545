"""Flags in people's own words: short names, flags that need an answer of their own, and flags that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_flags import overrides, read, refusal

from pipelines.flags import known_flags, translate

# Flags of TRL's and diffusers' trainers, and short names, of which each must be understood or answered by its name.
ANSWERED = {
    "lr", "steps", "batch_size", "epochs", "precision", "model", "data", "output", "loss", "beta", "max_length",
    "max_prompt_length", "label_smoothing", "precompute_ref_log_probs", "per_device_eval_batch_size", "eval_strategy",
    "eval_steps", "save_strategy", "save_steps", "save_total_limit", "logging_steps", "torch_dtype", "dtype", "optim",
    "gradient_checkpointing_kwargs", "dataset_config", "dataset_train_split", "dataset_test_split", "dataset_num_proc",
    "trust_remote_code", "torch_compile", "overwrite_output_dir", "load_in_4bit", "load_in_8bit", "num_train_epochs",
    "image_column", "caption_column", "choice_model", "non_ema_revision", "use_dora", "revision", "variant", "lora_r",
    "lora_dropout", "lora_target_modules",
}  # fmt: skip


def notes(*arguments: str) -> str:
    """What is said about flags."""
    return "\n".join(translate(["train", *arguments]).notes)


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A small valid recipe file."""
    file = tmp_path / "mine.yaml"
    file.write_text("model: {path: some/checkpoint}\ndata: {path: some/pairs}\noutput: runs/x\n")
    return str(file)


def test_every_flag_that_people_bring_is_known() -> None:
    assert set(known_flags()) >= ANSWERED


def test_short_names_set_the_same_keys(base: str) -> None:
    typed = "--lr 3e-5 --steps 7 --batch_size 6 --precision fp16 --model a/b --data c/d -o runs/y --loss ipo --beta 9"
    recipe = read(base, *typed.split())
    assert (recipe.optim.lr, recipe.train.steps, recipe.train.batch_size) == (3e-5, 7, 6)
    assert (recipe.train.precision, recipe.model.path, recipe.data.path) == ("fp16", "a/b", "c/d")
    assert (recipe.output, recipe.method.loss, recipe.method.options["tau"]) == ("runs/y", "ipo", 9.0)
    assert overrides("-o=runs/z") == overrides("--output", "runs/z") == ["output=runs/z"]
    assert "train.steps = epochs x pairs / train.batch_size" in refusal("--epochs", "3")
    assert "expected a value" in refusal("-o")
    assert "both set train.batch_size" in refusal("--batch_size", "4", "--train_batch_size", "2")
    assert "both set output" in refusal("-o", "a", "output=b")


@pytest.mark.parametrize(("theirs", "ours"), [("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")], ids=str)
def test_dtypes(base: str, theirs: str, ours: str) -> None:
    assert read(base, "--torch_dtype", theirs).train.precision == ours
    assert read(base, f"--dtype={theirs}").train.precision == ours


def test_other_dtypes() -> None:
    for typed in (["--dtype", "auto"], ["--dtype=auto"]):
        assert overrides(*typed) == []
        assert "changes nothing" in notes(*typed)
    assert "expected float32, float16, bfloat16, got 'int8'" in refusal("--torch_dtype", "int8")
    assert "expected a value" in refusal("--torch_dtype")


def test_the_optimiser_is_adamw() -> None:
    for name in ("adamw_torch", "adamw_torch_fused"):
        assert overrides("--optim", name) == []
        assert "the optimiser is AdamW" in notes("--optim", name)
    assert "--optim adafactor: the optimiser is AdamW; leave it out" in refusal("--optim", "adafactor")
    assert overrides("--optim.lr", "3") == ["optim.lr=3"]


def test_strategies_are_counted_in_steps(base: str) -> None:
    assert read(base, "--eval_strategy", "no").evaluation.held_out_pairs == 0
    for flag, key in (
        ("--eval_strategy", "evaluation.every"),
        ("--save_strategy", "train.checkpoint_every"),
        ("--logging_strategy", "train.log_every"),
    ):
        assert overrides(flag, "steps") == []
        assert key in notes(flag, "steps")
        assert refusal(flag, "epoch") == f"{flag} epoch: counted in steps here; give {key}=STEPS"
    assert "train.checkpoint_every=STEPS" in refusal("--save_strategy", "no")


def test_columns(base: str) -> None:
    assert read(base, "--caption_column", "title: x").data.columns == {"prompt": "title: x"}
    assert overrides("--caption_column", "caption") == []
    assert "found by that name" in notes("--caption_column", "caption")
    assert "data.columns={chosen: A, rejected: B}" in refusal("--image_column", "image")


def test_what_is_never_done() -> None:
    assert "never: code" in refusal("--trust_remote_code")
    assert overrides("--trust_remote_code", "false") == []
    assert "output=FOLDER" in refusal("--overwrite_output_dir")


@pytest.mark.parametrize(
    ("flag", "key"),
    [("checkpoint_every", "train.checkpoint_every"), ("held-out-pairs", "evaluation.held_out_pairs"),
     ("schedul", "optim.schedule"), ("micro_batch", "train.micro_batch_size")],
)  # fmt: skip
def test_an_unknown_flag_names_the_nearest_key_of_all_sections(flag: str, key: str) -> None:
    message = refusal("r.yaml", f"--{flag}", "5")
    assert message.startswith(f"--{flag}: no such flag; settings are given as section.key=value")
    assert f"the nearest key is {key}" in message
    assert "`mmpo init`" in message
    assert "`mmpo schema`" in message


def test_an_unknown_flag_that_is_like_nothing() -> None:
    message = refusal("--fobbar", "3")
    assert "settings are given as section.key=value" in message
    assert "nearest" not in message


def test_an_option_of_train_itself_that_is_nearly_right() -> None:
    assert refusal("r.yaml", "--resum") == "--resum: no such flag; did you mean --resume?"
    assert refusal("r.yaml", "--dryrun") == "--dryrun: no such flag; did you mean --dry-run?"
