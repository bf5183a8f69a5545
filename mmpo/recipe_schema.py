"""The recipe's JSON schema, for editors that complete and check YAML while it is written. Imports no torch."""

from __future__ import annotations

import json
from typing import Any

from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Recipe

_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe: what pydantic knows of it, and the losses' options beside their name.

    Any option of any loss is allowed beside `method.loss`; that it belongs to the loss named there is checked when
    the recipe is read.
    """
    schema = _with_standard_bounds(Recipe.model_json_schema())
    schema = _with_rewards_by_name(schema)
    method = schema["$defs"]["Method"]
    method["additionalProperties"] = False
    method["properties"]["loss"] |= {
        "enum": list(LOSS_TABLE),
        "description": "; ".join(f"{name}: {entry.title}" for name, entry in LOSS_TABLE.items()),
    }
    method["properties"] |= _loss_options()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "mmpo recipe",
        "description": "One run of mmpo; an unknown key is an error.",
    }


def schema_json() -> str:
    """The schema as text; a recipe names its file in the line `# yaml-language-server: $schema=recipe.schema.json`."""
    return json.dumps(recipe_schema(), indent=2)


def _loss_options() -> dict[str, dict[str, Any]]:
    """The numbers that losses take, each with the losses that take it and their defaults for a denoiser."""
    found: dict[str, dict[str, Any]] = {}
    for loss, entry in LOSS_TABLE.items():
        for name, option in entry.options.items():
            words = f"{loss} (default {option.surrogate:g}, above {option.above:g})"
            known = found.get(name)
            if known is None:
                found[name] = {"type": "number", "exclusiveMinimum": option.above, "description": f"option of {words}"}
            else:
                known["description"] += f", {words}"
                known["exclusiveMinimum"] = min(known["exclusiveMinimum"], option.above)
    return found


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
