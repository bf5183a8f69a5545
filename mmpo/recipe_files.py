"""Finding, reading, overriding and writing recipes; validation errors in plain words. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Method, Recipe, Term
from mmpo.respond_recipe import RespondRecipe
from mmpo.retrieve_recipe import RetrieveRecipe
from mmpo.reward_recipe import RewardRecipe
from mmpo.suggest import nearest, one_of
from mmpo.synth_recipe import SynthRecipe
from mmpo.vlm_recipe import ADAPTER, VlmRecipe

Schema = TypeVar("Schema", bound=BaseModel)
COMMANDS: dict[Any, str] = {
    Recipe: "mmpo train",
    VlmRecipe: "mmpo train",
    RewardRecipe: "mmpo train-reward",
    SynthRecipe: "mmpo synth",
    RespondRecipe: "mmpo respond",
    RetrieveRecipe: "mmpo retrieve",
}
"""What runs each kind of recipe."""
_TELLING: dict[Any, str] = {
    Recipe: "method",
    RewardRecipe: "objective",
    SynthRecipe: "generators",
    RespondRecipe: "responses",
    RetrieveRecipe: "retrieval",
}
"""The key that only recipes of this kind have; a shipped recipe says it at its top. Of those with `method`, a
`VlmRecipe` says which by `adapter: autoregressive`."""
_OF_ANSWERS = re.compile(rf"(?m)^(method:.*|\s+)\badapter\s*:\s*{ADAPTER}\b")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-5 is a number (YAML 1.1 asks for 1.0e-5) and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {key.start_mark.line + 1}: a list or section stands where a key is expected")
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: the key '{key.value}' stands twice in one section")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever `_Loader` would read as a number."""


_ALIKE = 0.7
"""How much an unknown key must be like one of any section; within a section, less will do."""
_FLOAT = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+0123456789"))
_Dumper.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+0123456789"))


def configs_folder() -> Path:
    """Where the shipped recipes are: inside an installed package, or beside it in a clone."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def shipped_recipes(schema: type[BaseModel] = Recipe) -> dict[str, Path]:
    """The recipes of one kind that travel with mmpo, by name."""
    files = sorted(configs_folder().glob("*.yaml"))
    return {path.stem: path for path in files if _kind(path.read_text(encoding="utf-8")) is schema}


def _kind(text: str) -> type[BaseModel]:
    found = (kind for kind, key in _TELLING.items() if re.search(rf"(?m)^{key}\s*:", text))
    kind = next(found, Recipe)
    return VlmRecipe if kind is Recipe and _OF_ANSWERS.search(text) else kind


def find_recipe(name: str, schema: type[BaseModel] = Recipe) -> Path:
    """The file of a recipe given by path or by the name of a shipped one.

    Args:
        name: file, folder of a run, or name of a shipped recipe.
        schema: of the shipped ones.
    Raises:
        ValueError: names the nearest shipped recipe; or a file NAME.yaml here makes the name NAME ambiguous.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    shipped = shipped_recipes(schema)
    here = next((file for suffix in (".yaml", ".yml") if (file := Path(f"{name}{suffix}")).is_file()), None)
    if name in shipped:
        if here is not None and not here.samefile(shipped[name]):
            raise ValueError(
                f"recipe: '{name}' is a shipped recipe, and the file {here} stands here; give {here} to take the file, "
                "or run mmpo in another folder to take the shipped recipe"
            )
        return shipped[name]
    others = {other: file for kind in COMMANDS for other, file in shipped_recipes(kind).items()}
    if name in others:
        return others[name]  # whoever reads it says that it is of another kind
    if here is not None:
        raise ValueError(f"recipe: no file '{name}'; did you mean '{here}'?")
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ValueError(f"recipe: no file '{name}'; give a YAML file or one of: {', '.join(shipped)}")
    raise ValueError(f"recipe: {one_of(name, shipped)}")


def load_recipe(name: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe of `mmpo train` and applies `section.key=value` overrides; see `load_as`."""
    return load_as(Recipe, name, overrides)


def load_training(name: str | None, overrides: Sequence[str] = ()) -> Recipe | VlmRecipe:
    """Reads a recipe of `mmpo train`, of images or of answers, whichever its `method.adapter` says; see `load_as`."""
    # bytes that are no UTF-8 are named by `load_as`, which reads the file in earnest
    said = parse_yaml(find_recipe(name).read_text(encoding="utf-8", errors="replace"), name) if name is not None else {}
    tree: dict[str, Any] = said if isinstance(said, dict) else {}
    for override in overrides:
        _override(tree, override)
    if _says_answers(tree):
        return load_as(VlmRecipe, name, overrides)
    return load_recipe(name, overrides)


def _says_answers(tree: Mapping[str, Any]) -> bool:
    method = tree.get("method")
    return isinstance(method, Mapping) and method.get("adapter") == ADAPTER


def load_as(schema: type[Schema], name: str | None, overrides: Sequence[str] = ()) -> Schema:
    """Reads a recipe of this kind and applies `section.key=value` overrides.

    Args:
        schema: a key of `COMMANDS`.
        name: file, folder of a run, or name of a shipped recipe; None where the overrides are the whole recipe.
    Raises:
        ValueError: one line per fault, each naming the key, what was expected and what came.
    """
    if name is None:
        tree: Any = {}
        for override in overrides:
            _override(tree, override)
        return validate_as(schema, tree, "the command line")
    path = find_recipe(name, schema)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}; save it as UTF-8") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected sections (model, data, ...), got {type(tree).__name__}")
    other = next((kind for kind, key in _TELLING.items() if kind is not schema and key in tree), None)
    if schema is VlmRecipe and other is Recipe:
        other = None
    elif schema is Recipe and other is None and _says_answers(tree):
        other = VlmRecipe
    if other is VlmRecipe:
        raise ValueError(
            f"{path}: is a recipe of `mmpo train` for answers of a vision-language model (method.adapter: {ADAPTER}), "
            "which this command does not take yet"
        )
    if other is not None:
        raise ValueError(f"{path}: is a recipe of `{COMMANDS[other]}`; `{COMMANDS[schema]}` takes another kind")
    for override in overrides:
        _override(tree, override)
    return validate_as(schema, tree, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parsed YAML, its faults as a ValueError that names the place."""
    try:
        return yaml.load(text, Loader=_Loader)  # the loader derives from SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{where}: nested too deep; a recipe has sections and keys") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def validate(tree: dict[str, Any], where: str = "recipe") -> Recipe:
    """A checked recipe from plain dictionaries; see `validate_as`."""
    return validate_as(Recipe, tree, where)


def validate_as(schema: type[Schema], tree: dict[str, Any], where: str = "recipe") -> Schema:
    """A checked recipe of this kind from plain dictionaries.

    Raises:
        ValueError: as `load_as`.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join([f"{where}:", *(f"  {line}" for line in _explain(error, schema))])) from None


def changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with `section.key=value` overrides.

    Raises:
        ValueError: as `load_recipe`.
    """
    tree = recipe.model_dump(mode="json")
    for override in overrides:
        _override(tree, override)
    return validate(tree, " ".join(overrides))


def dump(recipe: BaseModel) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"override '{text}': expected section.key=value, such as train.steps=500")
    *sections, last = key.strip().lstrip("-").split(".")
    node = tree
    for section in sections:
        if not isinstance(node.get(section), dict):
            node[section] = {}
        node = node[section]
    node[last] = parse_yaml(value, f"override '{text}'")


def _explain(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    for fault in error.errors():
        loc = [part for part in fault["loc"] if not _is_branch_label(part)]
        place = ".".join(str(part) for part in loc)
        if fault["type"] == "extra_forbidden":
            valid = list(_section_at(loc[:-1], schema).model_fields)
            yield f"{place}: unknown key; {_hint(str(loc[-1]), valid, schema)}valid: {', '.join(valid)}"
        elif fault["type"] == "missing":
            yield f"{place}: missing; it has no default"
        elif fault["type"] in _KINDS:
            yield f"{place}: expected {_KINDS[fault['type']](loc, fault['input'], schema)}"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            got = "" if fault["type"] == "value_error" else f", got {fault['input']!r}"
            yield f"{place}: {message}{got}" if place else f"{message}{got}"


def nearest_keys(name: str, schema: type[BaseModel] = Recipe) -> list[str]:
    """The keys of all sections that an unknown name may mean, at most three: by name, by meaning, by spelling."""
    keys = _keys_of(schema)
    last = name.rpartition(".")[2]
    same = [key for key in keys if key.rpartition(".")[2] == last]
    if not same and (words := last.replace("_", " ")).count(" "):
        same = [key for key, description in keys.items() if description.startswith(words)]
    if not same and "epoch" in last:
        same = ["train.steps"]  # what runs are counted in
    if not same:
        near = difflib.get_close_matches(last, dict.fromkeys(key.rpartition(".")[2] for key in keys), 1, _ALIKE)
        same = [key for key in keys if key.rpartition(".")[2] in near]
    depth = min((key.count(".") for key in same), default=0)
    return [key for key in same if key.count(".") == depth][:3]


@lru_cache
def _keys_of(schema: type[BaseModel]) -> dict[str, str]:
    return dict(_keys(schema))


def _keys(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, its description) of a section and those inside it; the losses' options too."""
    for name, field in model.model_fields.items():
        yield f"{place}{name}", field.description or ""
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _keys(inner, f"{place}{name}.")
    if model in (Method, Term):
        yield from ((f"{place}{option}", "") for entry in LOSS_TABLE.values() for option in entry.options)


def _hint(name: str, valid: Sequence[str], schema: type[BaseModel]) -> str:
    """What an unknown key may mean: the very name in another section, else the most alike in its own, else in all."""
    elsewhere = nearest_keys(name, schema)
    very = [key for key in elsewhere if key.rpartition(".")[2] == name]
    near = nearest(name, valid)
    found = very or ([near] if near else elsewhere)
    return f"did you mean {' or '.join(repr(key) for key in found)}? " if found else ""


def _as_section(loc: Sequence[object], value: Any, schema: type[BaseModel]) -> str:
    if isinstance(loc[-1], int):
        return f"a name, or {{name: ..., option: ...}}, got {value!r}"
    place, fields = ".".join(str(part) for part in loc), _section_at(loc, schema).model_fields
    first, field = next(iter(fields.items()))
    one = isinstance(value, str | int | float) and not isinstance(value, bool)
    example = value if one else "..." if field.is_required() else field.default
    return f"a section with keys ({', '.join(fields)}), got {value!r}; give {place}.{first}={example}"


def _as_list(loc: Sequence[object], value: Any, schema: type[BaseModel]) -> str:
    fix = f"; give [{value}]" if isinstance(value, str) else ""
    return f"a list, got {value!r}{fix}"


def _as_pair(loc: Sequence[object], value: Any, schema: type[BaseModel]) -> str:
    return f"a list of two numbers, got {value!r}"


def _as_names(loc: Sequence[object], value: Any, schema: type[BaseModel]) -> str:
    return f"names and their values, {{name: value}}, got {value!r}"


_KINDS = {"model_type": _as_section, "list_type": _as_list, "tuple_type": _as_pair, "dict_type": _as_names}


def _is_branch_label(part: object) -> bool:
    """pydantic adds the branch of a union to the place of a fault; a reader of the recipe has no use for it."""
    return isinstance(part, str) and bool(re.search(r"[\[\]()]", part) or part in {"str", "int", "Lora"})


def _section_at(loc: Sequence[object], schema: type[BaseModel]) -> type[BaseModel]:
    model = schema
    for part in loc:
        info = model.model_fields.get(str(part))
        inner = _model_in(info.annotation) if info else None
        if inner is None:
            break
        model = inner
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next((model for arg in get_args(annotation) if (model := _model_in(arg))), None)
    return None
