"""The recipe: what is shipped is valid, what is wrong is refused in words that say where and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmpo.loss_feeds import needs_rollout, untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Recipe, RewardSpec
from mmpo.recipe_files import dump, find_recipe, load_recipe, parse_yaml, shipped_recipes, validate
from mmpo.suggest import nearest, one_of

BASE = """
model: {path: some/checkpoint, lora: {rank: 4}}
data: {path: some/pairs}
train:
  steps: 7
output: runs/x
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small valid recipe file."""
    return save(tmp_path, BASE)


def save(folder: Path, text: str | bytes) -> Path:
    """A recipe file with this text."""
    file = folder / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refusal(file: Path | str, *overrides: str) -> str:
    """The message with which a recipe is refused."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at the message)
        load_recipe(str(file), overrides)
    return str(caught.value)


def again(recipe: Recipe) -> Recipe:
    """A recipe through its saved form, as a run's folder keeps it."""
    return validate(parse_yaml(dump(recipe), "saved"))


# --------------------------------------------------------------------------------------------------------- shipped


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_valid_and_survives_being_saved(name: str) -> None:
    recipe = load_recipe(name)
    assert again(recipe) == recipe
    assert dump(again(recipe)) == dump(recipe)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_saved_form_writes_out_every_default(name: str) -> None:
    """A run must mean the same when a later version changes a default."""
    tree = yaml.safe_load(dump(load_recipe(name)))
    for section, model in (("train", "Train"), ("optim", "Optim"), ("evaluation", "Evaluation"), ("data", "Data")):
        schema = Recipe.model_json_schema()["$defs"][model]
        assert tree[section].keys() == schema["properties"].keys()


def test_a_recipe_says_first_what_it_is() -> None:
    for path in shipped_recipes().values():
        assert path.read_text().startswith("# "), path.name


def test_shipped_recipes_are_found_by_name_by_file_and_by_a_runs_folder(base: Path) -> None:
    name, path = next(iter(shipped_recipes().items()))
    assert find_recipe(name) == path
    assert find_recipe(str(base)) == base
    base.rename(base.with_name("recipe.yaml"))
    assert find_recipe(str(base.parent)) == base.with_name("recipe.yaml")


def test_a_shipped_name_is_refused_where_a_file_of_that_name_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, path = next(iter(shipped_recipes().items()))
    for suffix in (".yaml", ".yml"):
        own = Path(name + suffix)
        own.write_text(BASE)
        message = refusal(name)
        assert f"give {own} to take the file" in message
        assert "in another folder to take the shipped recipe" in message
        assert load_recipe(str(own)).train.steps == 7
        own.unlink()
    assert find_recipe(name) == path
    monkeypatch.chdir(path.parent)
    assert find_recipe(name) == path, "it is the shipped file itself that stands here"


def test_a_file_without_its_ending_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, BASE)
    assert refusal("mine") == "recipe: no file 'mine'; did you mean 'mine.yaml'?"


# ------------------------------------------------------------------------------------- reading, overrides, defaults


def test_command_line_wins_over_file_and_file_over_default(base: Path) -> None:
    default = Recipe.model_json_schema()["$defs"]["Train"]["properties"]
    recipe = load_recipe(str(base))
    assert (recipe.train.steps, recipe.train.batch_size) == (7, default["batch_size"]["default"])
    assert default["steps"]["default"] != 7
    changed = load_recipe(str(base), ["train.steps=9", "train.steps=11", "train.batch_size=2"])
    assert (changed.train.steps, changed.train.batch_size) == (11, 2)


OVERRIDES = [
    ("train.steps=500", "train.steps", 500),
    ("--train.steps=500", "train.steps", 500),
    ("optim.lr=1e-5", "optim.lr", 1e-5),
    ("optim.lr=2.5E-4", "optim.lr", 2.5e-4),
    ("optim.lr=1e+0", "optim.lr", 1.0),
    ("method.beta=5e3", "method.options", {"beta": 5000.0}),
    ("train.gradient_checkpointing=true", "train.gradient_checkpointing", True),
    ("train.ema=0.99", "train.ema", 0.99),
    ("method.timesteps=[0.1, 0.9]", "method.timesteps", (0.1, 0.9)),
    ("model.lora.targets=[to_q, to_k]", "model.lora.targets", ["to_q", "to_k"]),
    ("model.lora.alpha=8", "model.lora.alpha", 8.0),
    ("model.lora=null", "model.lora", None),
    ("model.lora=", "model.lora", None),
    ("evaluation.guard.action=stop", "evaluation.guard.action", "stop"),
    ("evaluation.sampling.steps=3", "evaluation.sampling.steps", 3),
    ("data.path=a=b", "data.path", "a=b"),
    ("data.path=/data/my pairs", "data.path", "/data/my pairs"),
    ("output='123'", "output", "123"),
]


@pytest.mark.parametrize(("text", "place", "value"), OVERRIDES, ids=[text for text, _, _ in OVERRIDES])
def test_an_override_has_the_type_that_yaml_gives_it(base: Path, text: str, place: str, value: Any) -> None:
    found: Any = load_recipe(str(base), [text])
    for name in place.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_an_override_makes_the_sections_on_its_way(base: Path) -> None:
    recipe = load_recipe(
        str(base), ["model.lora=null", "model.lora.rank=2", "data.make.prompts=p.txt", "data.make.reward=random"]
    )
    assert recipe.model.lora is not None
    assert recipe.model.lora.rank == 2
    assert recipe.data.make is not None
    assert recipe.data.make.reward == RewardSpec(name="random")
    assert again(recipe) == recipe


def test_rewards_are_names_or_names_with_options(base: Path) -> None:
    recipe = load_recipe(str(base), ["evaluation.rewards=[shapes, {name: random, seed: 3}]"])
    assert [(spec.name, spec.options) for spec in recipe.evaluation.rewards] == [
        ("shapes", {}),
        ("random", {"seed": 3}),
    ]
    assert again(recipe) == recipe


def test_a_losss_options_are_filled_in_for_the_surrogate(base: Path) -> None:
    assert load_recipe(str(base)).method.options == {"beta": 5000.0}
    assert load_recipe(str(base), ["method.beta=2"]).method.options == {"beta": 2.0}
    for name, entry in LOSS_TABLE.items():
        if not untrainable(entry) and not needs_rollout(entry):
            overrides = [f"method.loss={name}", *(["method.weights=[0.5, 0.5]"] if "weights" in entry.extra else [])]
            assert load_recipe(str(base), overrides).method.options.keys() == entry.options.keys()


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-5", 1e-5), ("-2E+3", -2000.0), ("1.5e3", 1500.0), ("3", 3), ("1.0e-5", 1e-5), ("5e", "5e"), ("e5", "e5")],
)
def test_numbers_with_an_exponent_are_numbers(text: str, number: object) -> None:
    """YAML 1.1 reads 1e-5 as text, and everybody writes learning rates so."""
    assert parse_yaml(f"x: {text}", "f")["x"] == number


TEXTS = ["1e5", "5871e23", "1234567", "2024-01-01", "no", "~", "null", "1_000", "0x1F", "1:30", "{a: b}", " lead",
         "a: b # c", "it's", "日本語", "a\nb", "[", "-", "1.", "&x", "*x", "!tag", "%", "@", "é" * 200]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_being_saved(base: Path, text: str) -> None:
    """A revision such as 5871e23 is text in the file; read back as a number the run could not be evaluated."""
    tree = parse_yaml(base.read_text(), "")
    tree["model"]["revision"] = tree["data"]["path"] = tree["output"] = text
    recipe = validate(tree)
    assert again(recipe) == recipe


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 10**18))
def test_any_number_survives_being_saved(rate: float, steps: int) -> None:
    tree = parse_yaml(BASE, "")
    tree["optim"], tree["train"] = {"lr": rate}, {"steps": steps}
    recipe = validate(tree)
    assert again(recipe) == recipe


# ------------------------------------------------------------------------------------------------------- refusals

WRONG = [
    # unknown keys name the place and the nearest valid key
    (["train.stpes=5"], ["mine.yaml", "train.stpes: unknown key", "did you mean 'steps'?", "batch_size"]),
    (["modle.path=x"], ["modle: unknown key", "did you mean 'model'?"]),
    (["model.lora.rnak=5"], ["model.lora.rnak: unknown key", "did you mean 'rank'?", "targets"]),
    (["evaluation.guard.acton=stop"], ["evaluation.guard.acton: unknown key", "did you mean 'action'?"]),
    (["evaluation.sampling.step=5"], ["evaluation.sampling.step: unknown key", "did you mean 'steps'?"]),
    (["data.make.promts=x"], ["data.make.promts: unknown key", "did you mean 'prompts'?"]),
    (["data.make.prompts=x"], ["data.make.reward: missing"]),
    # the nearest key may stand in another section
    (["lr=1e-5"], ["lr: unknown key; did you mean 'optim.lr'?"]),
    (["steps=5"], ["steps: unknown key; did you mean 'train.steps'?"]),
    (["train.lr=1e-5"], ["train.lr: unknown key; did you mean 'optim.lr'?"]),
    (["learning_rate=1e-5"], ["did you mean 'optim.lr'?"]),
    (["epochs=3"], ["did you mean 'train.steps'?"]),
    (["seed=3"], ["did you mean 'train.seed' or 'evaluation.seed'?"]),
    (["model.rank=3"], ["did you mean 'model.lora.rank'?"]),
    (["beta=3"], ["did you mean 'method.beta'?"]),
    (["fobbar=3"], ["fobbar: unknown key; valid: model,"]),
    (["optim.zzzzzz=1"], ["optim.zzzzzz: unknown key; valid: lr,"]),
    # losses and their options
    (["method.loss=dop"], ["method", "loss: unknown name 'dop'", "did you mean 'dpop'?", "ipo"]),
    (["method.beat=5"], ["method", "beat: not an option of loss 'dpo'", "did you mean 'beta'?"]),
    (["method.tau=5"], ["method", "tau: not an option of loss 'dpo'"]),
    (["method.loss=ipo", "method.beta=5"], ["method", "beta: not an option of loss 'ipo'", "tau"]),
    (["method.beta=big"], ["method", "beta: expected a finite number above 0", "'big'"]),
    (["method.beta=-1"], ["method", "beta: expected a finite number above 0", "-1"]),
    (["method.beta=0"], ["method", "beta: expected a finite number above 0"]),
    (["method.beta=.nan"], ["method", "beta: expected a finite number above 0"]),
    (["method.beta=.inf"], ["method", "beta: expected a finite number above 0"]),
    (["method.beta=true"], ["method", "beta: expected a finite number above 0", "True"]),
    # wrong types
    (["train.steps=many"], ["train.steps", "valid integer", "'many'"]),
    (["train.steps=2.5"], ["train.steps", "valid integer", "2.5"]),
    (["train.steps=true"], ["train.steps", "True"]),
    (["train.steps="], ["train.steps", "None"]),
    (["train=[1]"], ["train", "[1]"]),
    (["model=sd15"], ["model", "'sd15'"]),
    (["model.lora=16"], ["model.lora: expected a section with keys (rank,", "got 16; give model.lora.rank=16"]),
    (["model.lora=true"], ["model.lora: expected a section", "got True; give model.lora.rank=16"]),
    (["data.make=true"], ["data.make: expected a section", "give data.make.prompts=..."]),
    (["data.columns=caption"], ["data.columns: expected names and their values", "'caption'"]),
    (["train.report_to=wandb"], ["train.report_to: expected a list", "give [wandb]"]),
    (["optim.betas=0.9"], ["optim.betas: expected a list of two numbers, got 0.9"]),
    (["model.lora.targets=5"], ["model.lora.targets", "attention", "5"]),
    (["output=5"], ["output", "valid string", "5"]),
    (["evaluation.rewards=shapes"], ["evaluation.rewards: expected a list, got 'shapes'; give [shapes]"]),
    (["evaluation.rewards=[5]"], ["evaluation.rewards.0: expected a name, or {name: ..., option: ...}, got 5"]),
    (["evaluation.rewards=[{seed: 5}]"], ["evaluation.rewards.0.name: missing"]),
    # out of range
    (["train.steps=0"], ["train.steps", "greater than 0"]),
    (["train.batch_size=-4"], ["train.batch_size", "greater than 0", "-4"]),
    (["train.ema=1"], ["train.ema", "less than 1"]),
    (["optim.lr=0"], ["optim.lr", "greater than 0"]),
    (["optim.lr=.nan"], ["optim.lr", "nan"]),
    (["optim.lr=.inf"], ["optim.lr", "inf"]),
    (["optim.betas=[0.9, 1.5]"], ["optim.betas", "1.5"]),
    (["optim.betas=[-0.1, 0.9]"], ["optim.betas", "-0.1"]),
    (["optim.betas=[0.9]"], ["optim.betas"]),
    (["method.prompt_dropout=1.2"], ["method.prompt_dropout", "less than or equal to 1", "1.2"]),
    (["method.timesteps=[0, 1.5]"], ["method.timesteps", "less than or equal to 1", "1.5"]),
    (["model.lora.rank=0"], ["model.lora.rank", "greater than 0"]),
    (["model.lora.dropout=1"], ["model.lora.dropout", "less than 1"]),
    (["train.precision=int8"], ["train.precision", "'fp32', 'bf16', 'fp16'", "'int8'"]),
    (["data.format=pick-a-pic"], ["data.format", "'pick_a_pic'", "'pick-a-pic'"]),
    (["data.on_bad_row=ignore"], ["data.on_bad_row", "'skip' or 'error'", "'ignore'"]),
    # values that do not go together
    (["method.timesteps=[0.9, 0.1]"], ["timesteps", "low < high", "[0.9, 0.1]"]),
    (["method.timesteps=[0.5, 0.5]"], ["timesteps", "low < high"]),
    (["method.reference=adapters_off", "model.lora=null"], ["method.reference", "needs model.lora", "frozen_copy"]),
    (["train.micro_batch_size=3"], ["train.micro_batch_size", "3 does not divide train.batch_size 8"]),
    (["optim.schedule=constant", "optim.warmup_steps=5"], ["optim.warmup_steps", "constant_with_warmup"]),
    # overrides that are none
    (["train.steps"], ["override 'train.steps'", "expected section.key=value"]),
    (["=5"], ["override '=5'", "expected section.key=value"]),
    (["data.path=[1, 2"], ["override 'data.path=[1, 2'", "not valid YAML"]),
]


@pytest.mark.parametrize(("overrides", "parts"), WRONG, ids=[" ".join(overrides) for overrides, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_place_and_what_was_expected(
    base: Path, overrides: list[str], parts: list[str]
) -> None:
    message = refusal(base, *overrides)
    for part in parts:
        assert part in message


BROKEN = [
    ("train: {steps: 1}\nmodel: {path: x}\ntrain: {steps: 2}\n", ["line 3", "'train' stands twice"]),
    ("train:\n  steps: 1\n  seed: 2\n  steps: 3\n", ["line 4", "'steps' stands twice"]),
    ("model: {path: x\ndata: {path: y}\n", ["not valid YAML", "line 2"]),
    ("model:\n\tpath: x\n", ["not valid YAML", "line 2"]),
    ("output: !!python/object/apply:os.system [id]\n", ["not valid YAML", "line 1"]),
    ("- model\n- data\n", ["expected sections (model, data, ...), got list"]),
    ("just a sentence\n", ["expected sections (model, data, ...), got str"]),
    ("", ["expected sections (model, data, ...), got NoneType"]),
    ("output: x\n", ["model: missing", "data: missing"]),
    ("model: {path: x}\ndata: {path: y}\n", ["output: missing"]),
    ("model: {}\ndata: {path: y}\noutput: x\n", ["model.path: missing"]),
    ("1: 2\n" + BASE, ["1: ", "string"]),
    (b"output: caf\xe9\n", ["utf-8"]),
]


@pytest.mark.parametrize(("text", "parts"), BROKEN, ids=[str(text)[:30] for text, _ in BROKEN])
def test_a_broken_file_is_refused_with_its_name_and_place(tmp_path: Path, text: str | bytes, parts: list[str]) -> None:
    message = refusal(save(tmp_path, text))
    for part in ["mine.yaml", *parts]:
        assert part in message


def test_every_fault_has_its_own_line(base: Path) -> None:
    lines = refusal(base, "train.stpes=5", "optim.lr=0", "data.format=x").splitlines()
    assert lines[0] == f"{base}:"
    assert [line.strip().partition(":")[0] for line in lines[1:]] == ["data.format", "optim.lr", "train.stpes"]


def test_an_unknown_recipe_names_the_nearest_and_all(tmp_path: Path) -> None:
    message = refusal("sd15_difusion_dpo")
    assert "did you mean 'sd15_diffusion_dpo'?" in message
    assert all(name in message for name in shipped_recipes())
    assert "no file" in refusal(tmp_path / "absent.yaml")
    assert "no file 'runs/absent'" in refusal("runs/absent")


def test_nothing_in_a_recipe_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    refusal(save(tmp_path, f"output: !!python/object/apply:pathlib.Path.touch [{target}]\n"))
    assert not target.exists()


# ---------------------------------------------------------------------------------------------- schema, suggestions


def test_the_json_schema_is_strict_and_describes_every_section() -> None:
    schema = json.loads(json.dumps(Recipe.model_json_schema()))
    assert set(schema["required"]) == {"model", "data", "output"}
    assert schema["properties"].keys() == Recipe.model_fields.keys()
    opened = {name for name, section in schema["$defs"].items() if section.get("additionalProperties", True)}
    assert opened == {"Method", "Term", "RewardSpec"}, "only a loss and a reward bring options of their own"
    assert schema["additionalProperties"] is False
    assert all(section.get("description") for section in schema["$defs"].values())


def test_a_recipe_cannot_be_changed_after_it_was_checked(base: Path) -> None:
    recipe = load_recipe(str(base))
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.steps = 5


def test_nearest_names() -> None:
    names = ["steps", "batch_size", "seed"]
    assert nearest("stpes", names) == "steps"
    assert nearest("batchsize", names) == "batch_size"
    assert nearest("zzz", names) is None
    assert one_of("sed", names) == "unknown name 'sed'; did you mean 'seed'? valid: batch_size, seed, steps"
    assert one_of("zzz", names) == "unknown name 'zzz'; valid: batch_size, seed, steps"


def test_reading_and_refusing_a_recipe_loads_no_torch(base: Path) -> None:
    program = (
        "import sys\n"
        "from mmpo.recipe_files import load_recipe\n"
        "load_recipe(sys.argv[1])\n"
        "try:\n"
        "    load_recipe(sys.argv[1], ['train.stpes=5'])\n"
        "except ValueError:\n"
        "    print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'datasets'} & sys.modules.keys()))\n"
    )
    output = subprocess.run([sys.executable, "-c", program, str(base)], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "[]"
