"""`mmpo init`: the written recipe is the shipped one, and each comment in it is a key that can be set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmpo.recipe import Recipe
from mmpo.recipe_comments import EDIT, commented, flow, live_tree
from mmpo.recipe_files import load_recipe, parse_yaml, shipped_recipes, validate
from pipelines.init import DEFAULT, init, list_lines
from pipelines.presets import ESTIMATE, PRESETS, SHARE, estimate, preset_for

NAMES = sorted(shipped_recipes())
REAL = [name for name in NAMES if not name.startswith("shapes_")]
LARGE = [name for name in REAL if name.startswith(("sdxl_", "sd3_", "sd21_dcpo"))]  # above 512 pixels, or every weight
ROLLOUTS = [name for name in REAL if "d3po" in name or "_spo" in name]
SMALL = [name for name in REAL if name not in (*LARGE, *ROLLOUTS)]
BUILT_IN = [name for name in NAMES if name.startswith("shapes_")]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Every value, the loss's options filled in: an option at its default means the same said or unsaid."""
    return {**recipe.model_dump(mode="json"), "options": recipe.method.options} | {
        "method": {key: getattr(recipe.method, key) for key in type(recipe.method).model_fields}
    }


def shipped(name: str) -> Recipe:
    """The recipe that travels with mmpo; its bare name is ambiguous where a file of that name stands."""
    return load_recipe(str(shipped_recipes()[name]))


def leaves(tree: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Dotted names of all keys of a tree, sections too."""
    for key, value in tree.items():
        yield f"{place}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{place}{key}.")


# ------------------------------------------------------------------------------------------------ the written file


@pytest.mark.parametrize("name", NAMES)
def test_the_written_recipe_is_the_shipped_one(name: str) -> None:
    init(name, None)
    assert load_recipe(f"{name}.yaml") == shipped(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_commented_key_can_be_uncommented_and_then_nothing_changes(name: str) -> None:
    init(name, None)
    text = Path(f"{name}.yaml").read_text()
    assert len(re.findall(r"(?m)^ *# +\w+:", text)) > 20
    tree = live_tree(text)
    assert resolved(validate(tree)) == resolved(shipped(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_that_can_be_set_stands_in_the_file(name: str) -> None:
    init(name, None)
    found = set(leaves(live_tree(Path(f"{name}.yaml").read_text())))
    whole = set(leaves(shipped(name).model_dump(mode="json")))
    own = {key for key in whole if key.startswith(("data.make.reward.", "data.columns."))}
    own |= {"data.path"} if "rollout.prompts" in whole else set()  # follows output where the recipe does not say it
    assert whole - own <= found


@pytest.mark.parametrize("name", NAMES)
def test_lines_come_in_the_recipes_order_with_its_words(name: str) -> None:
    init(name, None)
    text = Path(f"{name}.yaml").read_text()
    heads = re.findall(r"(?m)^(?:# )?([a-z_]+):", text)
    assert heads == list(Recipe.model_fields)
    for section in ("train", "optim"):
        for field in Recipe.model_fields[section].annotation.model_fields.values():  # type: ignore[union-attr]
            assert field.description is None or field.description in text
    assert text.startswith(f"## {shipped_recipes()[name].read_text().splitlines()[0].removeprefix('# ')}\n")
    assert f"mmpo train {name}.yaml --dry-run" in text


@pytest.mark.parametrize("name", NAMES)
def test_only_keys_that_the_recipe_sets_are_live(name: str) -> None:
    init(name, None)
    live = parse_yaml(Path(f"{name}.yaml").read_text(), name)
    assert live == parse_yaml(shipped_recipes()[name].read_text(), name)


@pytest.mark.parametrize("name", REAL)
def test_the_lines_to_edit_are_marked(name: str) -> None:
    lines = init(name, None)
    marked = [line.split(":")[0] for line in Path(f"{name}.yaml").read_text().splitlines() if f"# {EDIT}" in line]
    own = name in ROLLOUTS
    assert marked == (["  path", "  prompts"] if own else ["  path", "  path"])
    assert f"  edit model.path and {'rollout.prompts' if own else 'data.path'} in {name}.yaml" in lines


def test_what_is_given_is_filled_in_and_not_marked() -> None:
    lines = init("sd15_diffusion_dpo", None, model="my/check point", data="1e5")
    text = Path("sd15_diffusion_dpo.yaml").read_text()
    recipe = load_recipe("sd15_diffusion_dpo.yaml")
    assert (recipe.model.path, recipe.data.path, recipe.data.format) == ("my/check point", "1e5", "auto")
    assert EDIT not in text
    assert not [line for line in lines if "edit" in line]
    half = init(None, Path("half.yaml"), model="m")
    assert "  edit data.path in half.yaml" in half


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_recipe_of_the_built_in_world_needs_no_edit(name: str) -> None:
    lines = init(name, None)
    assert EDIT not in Path(f"{name}.yaml").read_text()
    assert lines[-2:] == [f"  mmpo train {name}.yaml --dry-run", f"  mmpo train {name}.yaml"]
    assert not [line for line in lines if "inspect" in line]


def test_the_general_recipe_is_the_default() -> None:
    lines = init(None, None)
    assert load_recipe("diffusion_dpo.yaml") == shipped(DEFAULT)
    assert lines[0] == "written: diffusion_dpo.yaml (from diffusion_dpo)"
    assert lines[-3:] == [
        "  mmpo data inspect my_pairs",
        "  mmpo train diffusion_dpo.yaml --dry-run",
        "  mmpo train diffusion_dpo.yaml",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_an_evaluation_only_where_it_can_be_run(name: str) -> None:
    """`mmpo eval RUN` refuses a recipe without prompts or rewards."""
    init(name, None)
    text = Path(f"{name}.yaml").read_text()
    section, run = shipped(name).evaluation, shipped(name).output
    possible = section.prompts is not None and bool(section.rewards)
    assert (f"##   mmpo eval {run} " in text) == possible
    assert (f"##   mmpo report {run} " in text) != possible
    assert "  mmpo report" in text or name != DEFAULT


# ------------------------------------------------------------------------------------------------------- refusals


def test_a_file_that_is_there_is_kept_unless_forced() -> None:
    Path("mine.yaml").write_text("precious")
    with pytest.raises(ValueError, match=r"mine\.yaml is there; --force"):
        init(None, Path("mine.yaml"))
    assert Path("mine.yaml").read_text() == "precious"
    init(None, Path("mine.yaml"), force=True)
    assert load_recipe("mine.yaml") == shipped(DEFAULT)


def test_a_folder_takes_the_recipe_under_its_name_and_a_new_folder_is_made() -> None:
    Path("here").mkdir()
    init(None, Path("here"))
    init(None, Path("new/deep/x.yaml"))
    assert load_recipe("here/diffusion_dpo.yaml") == load_recipe("new/deep/x.yaml")


def test_a_slash_at_the_end_means_a_folder() -> None:
    lines = init(None, "newdir/")
    assert lines[0] == "written: newdir/diffusion_dpo.yaml (from diffusion_dpo)"
    assert load_recipe("newdir/diffusion_dpo.yaml") == shipped(DEFAULT)
    init(None, "as-said")
    assert Path("as-said").is_file()


def test_a_place_that_cannot_be_written_is_named() -> None:
    Path("file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write file/x\.yaml: .*; choose another place with --output"):
        init(None, Path("file/x.yaml"))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'sd15_diffusion_dpo'\?.*init --list"):
        init("sd15_difusion_dpo", None)
    assert not list(Path().iterdir())


# -------------------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: f"{preset.memory}GB")
@pytest.mark.parametrize("name", SMALL)
def test_a_preset_changes_what_it_says_and_nothing_else(name: str, preset: Any) -> None:
    lines = init(name, None, memory=preset.memory)
    got, base = load_recipe(f"{name}.yaml"), shipped(name)
    assert got.train.batch_size % (got.train.micro_batch_size or 0) == 0
    assert got.train.micro_batch_size == preset.micro_batch_size  # divides the shipped batch sizes
    assert got.train.gradient_checkpointing == preset.gradient_checkpointing
    assert got.evaluation.sampling.batch_size == preset.sampling_batch_size
    changed = {"micro_batch_size", "gradient_checkpointing", "precision"}
    assert got.train.model_dump(exclude=changed) == base.train.model_dump(exclude=changed)
    assert got.model_dump(exclude={"train", "evaluation"}) == base.model_dump(exclude={"train", "evaluation"})
    assert any(f"preset for {preset.memory} GB" in line and ESTIMATE in line for line in lines)
    assert ESTIMATE in Path(f"{name}.yaml").read_text()
    assert resolved(validate(live_tree(Path(f"{name}.yaml").read_text()))) == resolved(got)


def test_presets_leave_a_fifth_of_the_card() -> None:
    assert [preset.memory for preset in PRESETS] == [8, 12, 16, 24, 40, 80]
    for preset in PRESETS:
        assert 0.4 * preset.memory < estimate(preset) <= SHARE * preset.memory


def test_a_card_between_two_presets_takes_the_smaller_and_says_so() -> None:
    assert preset_for(10).memory == 8
    assert preset_for(81).memory == 80
    assert any("preset for 8 GB; there is none for 10 GB" in line for line in init(None, None, memory=10))


def test_a_micro_batch_divides_whatever_batch() -> None:
    from pipelines.presets import apply_preset

    tree = {"model": {"path": "a", "lora": {}}, "data": {"path": "b"}, "train": {"batch_size": 6}, "output": "c"}
    changed = apply_preset(PRESETS[1], "x", tree)
    assert changed["train"]["micro_batch_size"] == 3
    assert tree["train"] == {"batch_size": 6}
    validate(changed)


def test_own_samples_take_neither_data_nor_a_preset() -> None:
    for said in ({"data": "my_pairs"}, {"memory": 24}):
        with pytest.raises(ValueError, match=r"own samples.*rollout\.prompts.*_16gb"):
            init("sd15_d3po", None, **said)  # type: ignore[arg-type]
    assert "data inspect" not in "".join(init("sd15_d3po", None, model="m"))


@pytest.mark.parametrize("name", [name for name in LARGE if name not in ROLLOUTS])
def test_presets_are_not_for_larger_models(name: str) -> None:
    with pytest.raises(ValueError, match=r"--memory: '.*' trains (every weight|at 1024 pixels)"):
        init(name, None, memory=24)


def test_presets_that_do_not_apply_are_refused() -> None:
    with pytest.raises(ValueError, match=r"smallest preset is for 8 GB; .*mmpo demo"):
        init(None, None, memory=6)
    with pytest.raises(ValueError, match="tiny built-in checkpoint, which fits any machine"):
        init("shapes_diffusion_dpo", None, memory=8)
    with pytest.raises(ValueError, match="trains every weight"):
        init("shapes_diffusion_dpo_full", None, memory=8, model="a/checkpoint")
    assert not list(Path().iterdir())


def test_the_list_names_recipes_and_presets() -> None:
    lines = list(list_lines())
    text = "\n".join(lines)
    for name, path in shipped_recipes().items():
        assert any(line.split()[:1] == [name] for line in lines)
        assert path.read_text().splitlines()[0].removeprefix("# ") in text
    for preset in PRESETS:
        assert any(line.strip().startswith(f"--memory {preset.memory} ") for line in lines)
    assert ESTIMATE in text
    assert f"{DEFAULT} " in text
    assert "(the default)" in text


# ------------------------------------------------------------------------------------------ values on one line


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@given(VALUES)
@example("\x85\U00010000")
def test_a_value_on_one_line_is_read_as_itself(value: Any) -> None:
    text = flow(value)
    assert "\n" not in text
    assert parse_yaml(f"key: {text}  # words", "x") == {"key": value}


TRAPS = [
    "1e5",
    "1e-5",
    "null",
    "yes",
    "a: b",
    "a # b",
    "[x",
    "{x",
    "- x",
    "",
    " ",
    "007",
    "1_000",
    "2024-01-01",
    "a\nb",
]


@pytest.mark.parametrize("text", TRAPS)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parse_yaml(f"key: {flow(text)}  # words", "x") == {"key": text}
    assert parse_yaml(f"key: {flow([text])}", "x") == {"key": [text]}


def test_a_lora_of_defaults_stays_a_lora() -> None:
    tree = {"model": {"path": "a", "lora": {}}, "data": {"path": "b"}, "output": "c"}
    assert validate(parse_yaml(commented(tree), "x")) == validate(tree)


def test_recipes_of_other_commands_are_listed_and_written_as_they_are(tmp_path: Path) -> None:
    """Their comments are kept; what only fits `mmpo train` is refused."""
    from mmpo.recipe_files import load_as, shipped_recipes
    from mmpo.synth_recipe import SynthRecipe

    assert any("recipes of mmpo synth" in line for line in list_lines())
    said = init("shapes_syn_pic", tmp_path / "mine.yaml")
    assert said[-1].startswith("next: mmpo synth ")
    assert (tmp_path / "mine.yaml").read_text() == shipped_recipes(SynthRecipe)["shapes_syn_pic"].read_text()
    assert load_as(SynthRecipe, str(tmp_path / "mine.yaml")).generators
    with pytest.raises(ValueError, match="is one of `mmpo synth`"):
        init("shapes_syn_pic", tmp_path / "other.yaml", memory=16)
