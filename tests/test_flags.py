"""The flags of other people's scripts: each means a key of the recipe, or says why not."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mmpo.loss_feeds import needs_rollout, untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Recipe
from mmpo.recipe_files import load_recipe, parse_yaml
from pipelines.flag_meanings import SCHEDULES, SPECIAL
from pipelines.flag_table import HARMLESS, HARMLESS_WITH_VALUE, REFUSED, SWITCHES, TEXTS, VALUES
from pipelines.flags import known_flags, split_recipe, translate

# What people already type for diffusers' and TRL's scripts, in the conventions of the ecosystem.
EXPECTED = {
    "pretrained_model_name_or_path", "model_name_or_path", "dataset_name", "output_dir", "seed", "resolution",
    "train_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler",
    "lr_warmup_steps", "max_train_steps", "checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint",
    "mixed_precision", "gradient_checkpointing", "use_8bit_adam", "rank", "lora_alpha", "validation_prompt",
    "validation_prompts", "report_to", "push_to_hub", "hub_model_id", "beta_dpo", "loss_type", "allow_tf32",
    "enable_xformers_memory_efficient_attention", "dataloader_num_workers",
}  # fmt: skip
SAMPLES = {
    "lora.dropout": "0.1", "data.resolution": "512", "prompt_dropout": "0.2", "optim.lr": "1e-5",
    "train.precision": "fp32", "weight_decay": "0.02", "optim.eps": "1e-7", "max_grad_norm": "0.5",
}  # fmt: skip
SPECIAL_SAMPLES = {
    "gradient_accumulation_steps": ["--train_batch_size", "2", "--gradient_accumulation_steps", "4"],
    "push_to_hub": ["--push_to_hub", "--hub_model_id", "me/mine"],
    "hub_model_id": ["--hub_model_id", "me/mine", "--push_to_hub"],
    "mixed_precision": ["--mixed_precision", "fp16"],
    "bf16": ["--bf16"],
    "fp16": ["--fp16", "true"],
    "torch_dtype": ["--torch_dtype", "float16"],
    "dtype": ["--dtype", "bfloat16"],
    "eval_strategy": ["--eval_strategy", "no"],
    "evaluation_strategy": ["--evaluation_strategy", "no"],
    "loss_type": ["--loss_type", "sigmoid"],
    "loss": ["--loss", "ipo"],
    "lr_scheduler": ["--lr_scheduler", "cosine"],
    "lr_scheduler_type": ["--lr_scheduler_type", "constant"],
    "report_to": ["--report_to", "all"],
    "lora_target_modules": ["--lora_target_modules", "to_q", "to_k"],
    "adam_beta1": ["--adam_beta1", "0.8"],
    "adam_beta2": ["--adam_beta2=0.99"],
}

NOTES_ALONE = {"resume_from_checkpoint", "optim", "save_strategy", "logging_strategy"}
"""Set no key of a recipe; tests of their own are in test_flag_words.py."""


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A small valid recipe file with a LoRA."""
    file = tmp_path / "mine.yaml"
    file.write_text("model: {path: some/checkpoint, lora: {rank: 4}}\ndata: {path: some/pairs}\noutput: runs/x\n")
    return str(file)


def overrides(*arguments: str, num_processes: int = 1) -> list[str]:
    """The overrides that flags become."""
    return translate(["train", *arguments], num_processes=num_processes).arguments[1:]


def read(base: str, *arguments: str, num_processes: int = 1) -> Recipe:
    """The recipe that flags make of the small one."""
    return load_recipe(base, overrides(*arguments, num_processes=num_processes))


def refusal(*arguments: str) -> str:
    """The message with which flags are refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at the message)
        translate(["train", *arguments])
    return str(caught.value)


def sample(flag: str) -> list[str]:
    """A way to type a flag that a table turns into overrides."""
    if flag in SPECIAL:
        return SPECIAL_SAMPLES.get(flag, [f"--{flag}", "3"])
    if flag in SWITCHES:
        return [f"--{flag}"]
    return [f"--{flag}", next((value for key, value in SAMPLES.items() if VALUES[flag].endswith(key)), "3")]


def at(recipe: Recipe, key: str) -> object:
    """The value of a dotted key."""
    value: object = recipe
    for part in key.split("."):
        value = recipe.method.options[part] if part in ("beta", "tau") else getattr(value, part)
    return value


# ------------------------------------------------------------------------------------------------------ the tables


def test_the_tables_are_complete_and_each_flag_stands_in_one() -> None:
    tables = [VALUES, SWITCHES, HARMLESS, HARMLESS_WITH_VALUE, REFUSED, SPECIAL]
    assert set(known_flags()) >= EXPECTED
    assert sum(len(table) for table in tables) == len(known_flags())
    assert set(VALUES.values()) >= TEXTS


@pytest.mark.parametrize("flag", sorted({*VALUES, *SWITCHES, *SPECIAL} - NOTES_ALONE))
def test_what_a_flag_becomes_is_a_valid_recipe_that_says_so(base: str, flag: str) -> None:
    typed = sample(flag)
    translated = translate(["train", base, *typed])
    assert translated.arguments[:2] == ["train", base]
    assert translated.notes
    changes = translated.arguments[2:]
    assert changes
    recipe = load_recipe(base, changes)
    for change in changes:
        key, _, value = change.partition("=")
        got = at(recipe, key)
        assert (list(got) if isinstance(got, tuple) else got) == parse_yaml(value, change)
    if flag in VALUES:
        assert [change.partition("=")[0] for change in changes] == [VALUES[flag]]
        assert translated.notes == [f"{typed[0]} is {VALUES[flag]} here"]


@pytest.mark.parametrize("flag", sorted(HARMLESS))
def test_a_harmless_flag_is_taken_away_with_its_reason(flag: str) -> None:
    assert translate(["train", f"--{flag}", "r.yaml"]) == (["train", "r.yaml"], [f"--{flag} {HARMLESS[flag]}"])


@pytest.mark.parametrize("flag", sorted(HARMLESS_WITH_VALUE))
def test_a_harmless_flag_takes_its_value_along(flag: str) -> None:
    notes = [f"--{flag} {HARMLESS_WITH_VALUE[flag]}"]
    assert translate(["train", f"--{flag}", "4", "r.yaml"]) == (["train", "r.yaml"], notes)
    assert translate(["train", f"--{flag}=4", "r.yaml"]) == (["train", "r.yaml"], notes)


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_what_mmpo_has_not_is_refused_with_what_to_do(flag: str) -> None:
    assert refusal("r.yaml", f"--{flag}", "3") == f"--{flag}: {REFUSED[flag]}"
    assert refusal("r.yaml", f"--{flag}=x") == f"--{flag}: {REFUSED[flag]}"
    assert overrides(f"--{flag}", "false", "r.yaml") == ["r.yaml"]
    assert overrides(f"--{flag}=False", "r.yaml") == ["r.yaml"]


# --------------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "typed",
    [["--learning_rate", "1e-5"], ["--learning_rate=1e-5"], ["--learning-rate", "1e-5"], ["--optim.lr", "1e-5"],
     ["--optim.lr=1e-5"], ["--Learning-Rate=1e-5"]],
    ids=" ".join,
)  # fmt: skip
def test_every_form_of_a_flag(typed: list[str]) -> None:
    assert overrides("r.yaml", *typed) == ["r.yaml", "optim.lr=1e-5"]
    assert overrides(*typed, "r.yaml") == ["r.yaml", "optim.lr=1e-5"]


def test_dotted_flags_take_dashes_and_lists() -> None:
    assert overrides("--train.batch-size", "4") == ["train.batch_size=4"]
    assert overrides("--evaluation.rewards", "[shapes]", "--output=runs/y") == [
        "evaluation.rewards=[shapes]",
        "output=runs/y",
    ]


@pytest.mark.parametrize(
    ("typed", "value"),
    [(["--gradient_checkpointing"], "true"), (["--gradient_checkpointing", "False"], "false"),
     (["--gradient_checkpointing=true"], "true"), (["--gradient_checkpointing", "x.yaml"], "true")],
)  # fmt: skip
def test_a_switch_stands_alone_or_before_a_truth(typed: list[str], value: str) -> None:
    assert f"train.gradient_checkpointing={value}" in overrides(*typed)


def test_text_stays_text() -> None:
    assert overrides("--revision", "12e5") == ['model.revision="12e5"']
    assert overrides("--dataset_name", "a: b") == ['data.path="a: b"']
    assert overrides("--dataset_name", "me/pairs") == ["data.path=me/pairs"]


def test_other_commands_launcher_options_and_own_options_are_left_alone() -> None:
    for arguments in ([], ["--help"], ["eval", "runs/x", "--learning_rate", "3"]):
        assert translate(arguments) == (arguments, [])
    arguments = ["train", "r.yaml", "--dry-run", "-h", "--help", "optim.lr=3"]
    assert translate(arguments) == (arguments, [])
    given = ["train", "r.yaml", "--seed", "3", "--", "--num_processes", "2", "--mixed_precision", "bf16"]
    assert translate(given).arguments == ["train", "r.yaml", "train.seed=3", *given[4:]]
    assert overrides("r.yaml", "--dry_run") == ["r.yaml", "--dry-run"]
    assert translate(["train", "--quiet", "r.yaml"], own=["quiet"]).arguments == ["train", "--quiet", "r.yaml"]


def test_a_flag_that_is_nearly_known_is_named() -> None:
    assert refusal("--learning_rat", "3") == "--learning_rat: no such flag; did you mean --learning_rate?"
    assert "did you mean --train_batch_size?" in refusal("--train_batchsize=3")


@pytest.mark.parametrize("typed", [["--learning_rate"], ["--learning_rate", "--seed", "3"], ["--optim.lr"]])
def test_a_flag_without_its_value_is_refused(typed: list[str]) -> None:
    assert refusal("r.yaml", *typed) == f"{typed[0]}: expected a value after it"


@pytest.mark.parametrize(
    "typed",
    [["--learning_rate", "1", "optim.lr=2"], ["optim.lr=2", "--optim.lr", "1"], ["--bf16", "--fp16"],
     ["--max_steps=1", "--max_train_steps=2"], ["--train_batch_size=1", "train.batch_size=8"]],
    ids=" ".join,
)  # fmt: skip
def test_a_key_set_twice_is_refused(typed: list[str]) -> None:
    assert "both set" in refusal("r.yaml", *typed)


def test_the_same_meaning_twice_is_refused() -> None:
    assert "mean the same" in refusal("--train_batch_size", "1", "--per_device_train_batch_size", "1")


# -------------------------------------------------------------------------------------------------------- meanings


def test_batch_sizes_are_counted_over_processes_and_accumulation(base: str) -> None:
    typed = ["--train_batch_size", "2", "--gradient_accumulation_steps", "8"]
    recipe = read(base, *typed, num_processes=4)
    assert (recipe.train.micro_batch_size, recipe.train.batch_size) == (2, 64)
    assert read(base, "--per_device_train_batch_size=3").train.batch_size == 3
    notes = translate(["train", *typed], num_processes=4).notes
    assert any("2 x 8 accumulation steps x 4 process" in note and "train.batch_size=64" in note for note in notes)
    assert "--train_batch_size too" in refusal("--gradient_accumulation_steps", "8")
    assert "at least 1, got 'x'" in refusal("--train_batch_size", "x")
    assert "at least 1, got '0'" in refusal("--train_batch_size=2", "--gradient_accumulation_steps=0")


@pytest.mark.parametrize(("theirs", "ours"), [("no", "fp32"), ("fp16", "fp16"), ("bf16", "bf16")])
def test_mixed_precision(base: str, theirs: str, ours: str) -> None:
    assert read(base, "--mixed_precision", theirs).train.precision == ours


def test_other_precisions() -> None:
    assert "got 'fp8'" in refusal("--mixed_precision", "fp8")
    assert translate(["train", "--bf16", "false"]).arguments == ["train"]


def test_loss_types(base: str) -> None:
    assert read(base, "--loss_type", "sigmoid").method.loss == "dpo"
    for name, entry in LOSS_TABLE.items():
        if not untrainable(entry) and not needs_rollout(entry):
            given = ["method.weights=[0.5, 0.5]"] if "weights" in entry.extra else []
            assert read(base, "--loss_type", name, *given).method.loss == name
    assert "did you mean 'sigmoid'" in refusal("--loss_type", "sigmoi")


def test_beta_goes_to_the_losss_own_option_and_tells_of_conventions(base: str) -> None:
    assert read(base, "--beta_dpo", "2500", "method.beta_convention=mean").method.options == {"beta": 2500}
    recipe = read(base, "--beta_dpo", "2500", "--loss_type", "ipo")
    assert (recipe.method.options, recipe.method.beta_convention) == (
        {"tau": 2500, "length_normalized": False},
        "half_mean",
    )
    (note,) = translate(["train", "--beta_dpo", "2500"]).notes
    assert "method.beta_convention=mean" in note
    assert "official Diffusion-DPO" in note
    assert "has no beta" in refusal("--loss_type", "sft", "--beta", "3")


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_that_we_have(base: str, name: str) -> None:
    recipe = read(base, "--lr_scheduler", name, "--lr_warmup_steps", "50")
    assert recipe.optim.schedule == name
    assert recipe.optim.warmup_steps == (0 if name == "constant" else 50)


def test_schedules_that_we_have_not_and_warm_up_alone(base: str) -> None:
    assert "valid: " in refusal("--lr_scheduler", "polynomial")
    assert read(base, "--warmup_steps", "7").optim.warmup_steps == 7
    notes = translate(["train", "--lr_scheduler", "constant", "--lr_warmup_steps", "500"]).notes
    assert any("500 is ignored there too" in note for note in notes)


def test_betas_of_adam_come_together(base: str) -> None:
    assert read(base, "--adam_beta1", "0.8").optim.betas == (0.8, 0.999)
    assert read(base, "--adam_beta1", "0.8", "--adam_beta2", "0.9").optim.betas == (0.8, 0.9)


@pytest.mark.parametrize("typed", [["latest"], ["True"], []], ids=str)
def test_resume(typed: list[str]) -> None:
    assert overrides("r.yaml", "--resume_from_checkpoint", *typed) == ["r.yaml", "--resume"]
    assert overrides("r.yaml", "--resume", "--resume_from_checkpoint", *typed) == ["r.yaml", "--resume"]


def test_resume_from_a_path_names_the_run() -> None:
    assert "output=runs/x --resume" in refusal("--resume_from_checkpoint", "runs/x/checkpoint-100")
    assert overrides("r.yaml", "--resume_from_checkpoint=false") == ["r.yaml"]


def test_validation_prompts_become_a_list(base: str) -> None:
    typed = ["--validation_prompts", "a cat", 'a "dog": b', "train.steps=5", "--validation_prompt", "x=y z"]
    recipe = read(base, *typed)
    assert recipe.evaluation.previews.prompts == ["a cat", 'a "dog": b', "x=y z"]
    assert recipe.train.steps == 5


@pytest.mark.parametrize(
    ("typed", "expected"),
    [(["all"], ["tensorboard", "wandb"]), (["none"], []), (["wandb"], ["wandb"]),
     (["wandb", "tensorboard"], ["wandb", "tensorboard"])],
    ids=str,
)  # fmt: skip
def test_report_to(base: str, typed: list[str], expected: list[str]) -> None:
    assert read(base, "--report_to", *typed).train.report_to == expected
    assert "valid: all, none, tensorboard, wandb" in refusal("--report_to", "comet_ml")


def test_pushing_needs_a_name(base: str) -> None:
    assert read(base, "--push_to_hub", "--hub_model_id=me/x").push_to_hub == "me/x"
    assert "--hub_model_id USER/NAME" in refusal("--push_to_hub")
    alone = translate(["train", "--hub_model_id", "me/x"])
    assert alone.arguments == ["train"]
    assert "uploads nothing" in alone.notes[0]
    assert overrides("--push_to_hub", "false") == []


# ----------------------------------------------------------------------------------------------------- split_recipe


def test_the_first_positional_is_the_recipe_unless_it_is_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_recipe([]) == (None, [])
    assert split_recipe(["r.yaml", "a.b=1"]) == ("r.yaml", ["a.b=1"])
    assert split_recipe(["model.path=x", "output=y"]) == (None, ["model.path=x", "output=y"])
    Path("lr=1.yaml").write_text("")
    assert split_recipe(["lr=1.yaml", "a.b=1"]) == ("lr=1.yaml", ["a.b=1"])


def test_the_command_of_diffusers_readme_trains_the_same(base: str) -> None:
    """Its flags, as a reader would paste them behind `mmpo train RECIPE`."""
    typed = shlex.split(
        "--pretrained_model_name_or_path=stable-diffusion-v1-5/stable-diffusion-v1-5 --output_dir=diffusion-dpo "
        "--mixed_precision=fp16 --dataset_name=kashif/pickascore --resolution=512 --train_batch_size=16 "
        "--gradient_accumulation_steps=2 --gradient_checkpointing --rank=8 --learning_rate=1e-5 --report_to=wandb "
        "--lr_scheduler=constant --lr_warmup_steps=0 --max_train_steps=10000 --checkpointing_steps=2000 "
        "--run_validation --validation_steps=200 --seed=0"
    )
    recipe = read(base, *typed)
    assert (recipe.model.path, recipe.model.lora and recipe.model.lora.rank) == (
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        8,
    )
    assert (recipe.data.path, recipe.data.resolution, recipe.output) == ("kashif/pickascore", 512, "diffusion-dpo")
    assert (recipe.optim.lr, recipe.optim.schedule, recipe.optim.warmup_steps) == (1e-5, "constant", 0)
    train = recipe.train
    assert (train.steps, train.batch_size, train.micro_batch_size, train.precision) == (10000, 32, 16, "fp16")
    assert (train.checkpoint_every, train.report_to, train.gradient_checkpointing) == (2000, ["wandb"], True)
    assert recipe.evaluation.previews.every == 200
