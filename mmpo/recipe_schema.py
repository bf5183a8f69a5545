"""The recipe's JSON schema, for editors that complete and check YAML while it is written. Imports no torch."""

from __future__ import annotations

import json
from typing import Any

from mmpo.loss_entry import LossEntry, Option
from mmpo.loss_feeds import GIVEN, untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Recipe
from mmpo.recipe_files import COMMANDS
from mmpo.suggest import one_of

_LOWS = ("minimum", "exclusiveMinimum")  # at the same number the first lets more pass
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe: what pydantic knows of it, and the losses' options beside their name.

    Any option of any loss is allowed beside `method.loss`; that it belongs to the loss named there is checked when
    the recipe is read.
    """
    schema = _with_standard_bounds(Recipe.model_json_schema())
    schema = _with_rewards_by_name(schema)
    _stored_or_own(schema)
    for section in ("Method", "Term"):
        node = schema["$defs"][section]
        node["additionalProperties"] = False
        described = {key: value for key, value in node["properties"]["loss"].items() if key not in ("anyOf", "type")}
        optional = [None] if section == "Method" else []  # null where terms stand in its place
        node["properties"]["loss"] = described | {
            "enum": [*_trainable(), *optional],
            "description": "; ".join(f"{name}: {entry.title}" for name, entry in _trainable().items()),
        }
        node["properties"] |= _loss_options()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "mmpo recipe",
        "description": "One run of mmpo; an unknown key is an error.",
    }


def _stored_or_own(schema: dict[str, Any]) -> None:
    """A recipe names its data, or a rollout that makes them: beside one, data.path has a default."""
    schema["required"].remove("data")
    schema["$defs"]["Data"]["required"].remove("path")
    named = {"required": ["data"], "properties": {"data": {"required": ["path"]}}}
    schema["anyOf"] = [named, {"required": ["rollout"], "properties": {"rollout": {"type": "object"}}}]


def schema_json(command: str = "train") -> str:
    """The schema as text; a recipe names its file in the line `# yaml-language-server: $schema=recipe.schema.json`.

    Args:
        command: whose recipe: a value of `mmpo.recipe_files.COMMANDS`, without "mmpo".
    Raises:
        ValueError: no such command.
    """
    kinds = {words.removeprefix("mmpo "): kind for kind, words in COMMANDS.items()}
    if command not in kinds:
        raise ValueError(f"schema: {one_of(command, kinds)}")
    if kinds[command] is Recipe:
        return json.dumps(recipe_schema(), indent=2)
    schema = _with_rewards_by_name(_with_standard_bounds(kinds[command].model_json_schema()))
    words = {"title": f"recipe of mmpo {command}", "description": "An unknown key is an error."}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **words}, indent=2)


def _trainable() -> dict[str, LossEntry]:
    """The losses that a recipe can train with."""
    return {name: entry for name, entry in LOSS_TABLE.items() if not untrainable(entry)}


def _loss_options() -> dict[str, dict[str, Any]]:
    """The numbers that losses take, each with the losses that take it and their defaults for a denoiser."""
    found: dict[str, dict[str, Any]] = {}
    for loss, entry in _trainable().items():
        for name, option in entry.options.items():
            shown = option.surrogate if isinstance(option.surrogate, bool | str) else f"{option.surrogate:g}"
            words = f"{loss} (default {shown}{',' if option.bounds else ''}{option.bounds})"
            known = found.get(name)
            if known is None:
                found[name] = {**_kind(option), "description": f"option of {words}"}
            else:
                known["description"] += f", {words}"
                found[name] = _wider(known, _kind(option))
        for name in GIVEN:
            if name in entry.extra:
                meaning = f"of {loss}: {entry.extra[name]}"
                found[name] = {"type": "array", "items": {"type": "number"}, "minItems": 2, "description": meaning}
    return found


def _kind(option: Option) -> dict[str, Any]:
    if option.choices:
        return {"type": "string", "enum": list(option.choices)}
    if isinstance(option.default, bool):
        return {"type": "boolean"}
    low = {"minimum": option.at_least} if option.at_least is not None else {"exclusiveMinimum": option.above}
    bounds = {**low, "exclusiveMaximum": option.below}
    return {"type": "number", **{key: value for key, value in bounds.items() if value is not None}}


def _wider(known: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What either loss takes: bounds that they do not share are checked when the recipe is read."""
    kept = {key: value for key, value in known.items() if key in ("type", "description") or other.get(key) == value}
    lows = [(value, key) for side in (known, other) for key in _LOWS if (value := side.get(key)) is not None]
    for key in _LOWS:
        kept.pop(key, None)
    if all(any(key in side for key in _LOWS) for side in (known, other)):
        value, key = min(lows, key=lambda low: (low[0], _LOWS.index(low[1])))
        kept[key] = value
    if "exclusiveMaximum" in known and "exclusiveMaximum" in other:
        kept["exclusiveMaximum"] = max(known["exclusiveMaximum"], other["exclusiveMaximum"])
    if "enum" in known and "enum" in other:
        kept["enum"] = sorted({*known["enum"], *other["enum"]})
    return kept


def _with_standard_bounds(node: Any) -> Any:
    """pydantic writes its own words for bounds that stand after a validator; editors know the standard's."""
    if isinstance(node, list):
        return [_with_standard_bounds(item) for item in node]
    if not isinstance(node, dict):
        return node
    numeric = node.get("type") in ("integer", "number")
    return {_BOUNDS.get(key, key) if numeric else key: _with_standard_bounds(item) for key, item in node.items()}


def _with_rewards_by_name(node: Any) -> Any:
    """A reward is its name or a section with a name; pydantic's schema knows the section alone."""
    if isinstance(node, list):
        return [_with_rewards_by_name(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("$ref") == "#/$defs/RewardSpec":
        rest = {key: item for key, item in node.items() if key != "$ref"}
        return {"anyOf": [{"type": "string"}, {"$ref": node["$ref"]}], **rest}
    return {key: _with_rewards_by_name(item) for key, item in node.items()}
