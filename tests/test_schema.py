"""The recipe's JSON schema: it takes what a recipe takes and refuses an unknown key, as an editor would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mmpo.loss_feeds import untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe_files import COMMANDS, parse_yaml, shipped_recipes, validate
from mmpo.recipe_schema import recipe_schema, schema_json

SCHEMA = json.loads(schema_json())
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
WORDS = {"title", "description", "default", "$schema", "$defs", "$ref"}
CHECKED = {
    "type", "enum", "const", "anyOf", "properties", "required", "additionalProperties", "items", "prefixItems",
    "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "pattern",
}  # fmt: skip


def faults(value: Any, schema: Mapping[str, Any], place: str = "", root: Mapping[str, Any] = SCHEMA) -> Iterator[str]:
    """What a value breaks of a schema: the standard's words that pydantic uses, and no others."""
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], place, root)
    unknown = schema.keys() - WORDS - CHECKED
    assert not unknown, f"{place}: this check does not know {unknown}"
    if "anyOf" in schema and all(list(faults(value, option, place, root)) for option in schema["anyOf"]):
        yield f"{place}: fits no option"
    if "type" in schema:
        number_is_bool = isinstance(value, bool) and schema["type"] in ("integer", "number")
        if not isinstance(value, TYPES[schema["type"]]) or number_is_bool:
            yield f"{place}: not {schema['type']}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: not of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{place}: not {schema['const']}"
    if isinstance(value, dict):
        yield from _object_faults(value, schema, place, root)
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{place}: {len(value)} items"
        for number, item in enumerate(value):
            own = first[number] if number < len(first) else schema.get("items", {})
            yield from faults(item, own, f"{place}[]", root)
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place}: does not match {schema['pattern']}"
    if isinstance(value, int | float):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{place}: out of range"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield f"{place}: too small"
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            yield f"{place}: too large"


def _object_faults(
    value: dict[str, Any], schema: Mapping[str, Any], place: str, root: Mapping[str, Any]
) -> Iterator[str]:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    yield from (f"{place}: {key} missing" for key in schema.get("required", []) if key not in value)
    for key, item in value.items():
        if key in properties:
            yield from faults(item, properties[key], f"{place}.{key}", root)
        elif more is False:
            yield f"{place}.{key}: unknown key"
        elif isinstance(more, dict):
            yield from faults(item, more, f"{place}.{key}", root)


def recipe(**sections: Any) -> dict[str, Any]:
    """A small valid recipe with sections replaced."""
    return {"model": {"path": "a"}, "data": {"path": "b"}, "output": "c", **sections}


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_fits_as_written_and_as_saved(name: str) -> None:
    tree = parse_yaml(shipped_recipes()[name].read_text(), name)
    assert list(faults(tree, SCHEMA)) == []
    saved = json.loads(json.dumps(validate(tree).model_dump(mode="json")))
    assert list(faults(saved, SCHEMA)) == []


WRONG = [
    (recipe(trian={}), ".trian: unknown key"),
    (recipe(train={"stpes": 5}), ".train.stpes: unknown key"),
    (recipe(method={"betta": 5}), ".method.betta: unknown key"),
    (recipe(method={"loss": "dop"}), ".method.loss"),
    (recipe(method={"beta": 0}), ".method.beta: too small"),
    (recipe(train={"steps": 0}), ".train.steps: too small"),
    (recipe(train={"steps": True}), ".train.steps: not integer"),
    (recipe(train={"steps": "many"}), ".train.steps: not integer"),
    (recipe(model={"path": "a", "lora": {"rank": 0}}), ".model.lora: fits no option"),
    (recipe(optim={"betas": [0.9]}), ".optim.betas: 1 items"),
    (recipe(evaluation={"rewards": [3]}), ".evaluation.rewards[]: fits no option"),
    ({"model": {"path": "a"}, "output": "c"}, ": fits no option"),
    ({"model": {"path": "a"}, "data": {"limit": 3}, "output": "c"}, ": fits no option"),
]


@pytest.mark.parametrize(("tree", "fault"), WRONG, ids=[fault for _, fault in WRONG])
def test_what_a_recipe_refuses_the_schema_refuses(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match="recipe"):
        validate(tree)
    assert any(fault in line for line in faults(tree, SCHEMA)), list(faults(tree, SCHEMA))


RIGHT = [
    recipe(),
    recipe(model={"path": "a", "lora": None}),
    recipe(evaluation={"rewards": ["shapes", {"name": "shapes", "measure": "soft"}]}),
    recipe(method={"loss": "ipo", "tau": 7}),
    {
        "model": {"path": "a", "lora": {}},
        "rollout": {"prompts": "p", "rewards": ["shapes"]},
        "method": {"loss": "d3po", "beta": 0.1},
        "evaluation": {"validation": {"prompts": "p", "alarms": {"saturation_rise": None}}},
        "output": "c",
    },
]


@pytest.mark.parametrize("tree", RIGHT, ids=["least", "null", "rewards", "option", "rollout"])
def test_what_a_recipe_takes_the_schema_takes(tree: dict[str, Any]) -> None:
    validate(tree)
    assert list(faults(tree, SCHEMA)) == []


def test_every_section_is_closed_but_rewards_whose_options_are_their_own() -> None:
    open_sections = {
        name for name, section in SCHEMA["$defs"].items() if section.get("additionalProperties") is not False
    }
    assert open_sections == {"RewardSpec"}
    assert SCHEMA["additionalProperties"] is False


def test_losses_and_their_options_are_documented() -> None:
    method = SCHEMA["$defs"]["Method"]["properties"]
    trainable = {name: entry for name, entry in LOSS_TABLE.items() if not untrainable(entry)}
    assert set(method["loss"]["enum"]) == {*trainable, None}
    assert set(SCHEMA["$defs"]["Term"]["properties"]["loss"]["enum"]) == trainable.keys()
    for name, entry in trainable.items():
        assert f"{name}: {entry.title}" in method["loss"]["description"]
        for option, bounds in entry.options.items():
            assert f"{name} (default " in method[option]["description"]
            assert bounds.above is None or method[option].get("exclusiveMinimum", bounds.above) <= bounds.above


def test_the_schema_is_made_anew_each_time_and_needs_no_torch() -> None:
    first = recipe_schema()
    first["$defs"].clear()
    assert recipe_schema() == SCHEMA
    program = "import sys, mmpo.recipe_schema as s; s.schema_json(); print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("command", ["train-reward", "synth", "respond"])
def test_other_commands_recipes_have_a_schema_that_takes_the_shipped_ones(command: str) -> None:
    """A wrong key is an error of the schema too."""
    schema = json.loads(schema_json(command))
    kind = next(kind for kind, words in COMMANDS.items() if words == f"mmpo {command}")
    shipped = shipped_recipes(kind)
    assert shipped
    for name, file in shipped.items():
        tree = parse_yaml(file.read_text(), name)
        assert list(faults(tree, schema, root=schema)) == []
        assert list(faults({**tree, "outptu": "x"}, schema, root=schema))
