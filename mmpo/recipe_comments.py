"""A recipe as commented YAML: what it sets is live, what it leaves is a comment with its default. Imports no torch.

Three kinds of lines: `key: value` is set; `# key: value` is a key at its default, set by taking the `# ` away (with
that of the section above it, where that is a comment too); `## words` are to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmpo.loss_entry import Option
from mmpo.loss_feeds import untrainable
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe import Method, Recipe, RewardSpec
from mmpo.recipe_files import parse_yaml

EDIT = "<- edit"
_WIDTH = 110


def commented(tree: Mapping[str, Any], header: Sequence[str] = (), edit: Sequence[str] = ()) -> str:
    """A recipe's file with every key that can be set.

    Args:
        tree: the recipe as plain dictionaries, only the keys that it sets.
        header: lines of words to begin with.
        edit: dotted keys to mark, because only the user knows their values.
    """
    lines = [f"## {line}".rstrip() for line in header]
    after_section = True
    for name, field in Recipe.model_fields.items():
        is_section = _section_of(field) is not None
        if after_section or is_section:
            lines.append("")
        lines += _field(name, field, tree, "", _Marks(frozenset(edit), name))
        after_section = is_section
    return "\n".join(lines).lstrip("\n") + "\n"


def live_tree(text: str) -> dict[str, Any]:
    """What a commented file says with every `# key: value` made live: each key that can be set, at its value."""
    return parse_yaml(re.sub(r"(?m)^( *)# ( *[a-z]\w*:)", r"\1\2", text), "recipe")


def flow(value: Any) -> str:
    """A value on one line, as both YAML 1.1 and the recipe's own reader take it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}" if e else mantissa
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]
    if "\n" in text or parse_yaml(f"[{text}]", "value") != [value]:  # 1e5 is a number to our reader
        quoted = yaml.safe_dump([value], default_flow_style=True, default_style='"', width=10**6)
        return quoted.strip()[1:-1]  # escapes of its own: JSON writes rare letters as two, which YAML does not join
    return text


class _Marks:
    """Where in the recipe a line is, and whether it is one that the user must edit."""

    def __init__(self, edit: frozenset[str], key: str) -> None:
        self.edit, self.key = edit, key

    def below(self, name: str) -> _Marks:
        return _Marks(self.edit, f"{self.key}.{name}")

    @property
    def words(self) -> str:
        return EDIT if self.key in self.edit else ""


def _field(name: str, field: FieldInfo, given: Mapping[str, Any], indent: str, marks: _Marks) -> Iterator[str]:
    """The lines of one key; `indent` is what stands before it, `# ` included inside a section that is a comment."""
    section = _section_of(field)
    default = field.get_default(call_default_factory=True)
    if section is None or (default is None and given.get(name) is None):
        yield from _leaf(name, field, given, indent, marks)
        if section is not None:
            yield from _instead_of_null(section, indent)
        return
    inner = given.get(name) or {}
    if not inner and default is None:  # `lora: {}` is a LoRA at its defaults, which only a live key can say
        first = next(iter(section.model_fields))
        inner = {first: section.model_fields[first].get_default(call_default_factory=True)}
    here = indent if inner else _as_comment(indent)
    words = _first_line(section)
    yield f"{here}{name}:  # {words}" if words else f"{here}{name}:"
    for key, below in section.model_fields.items():
        yield from _field(key, below, inner, here + "  ", marks.below(key))
        if section is Method and key == "loss":
            yield from _loss_options(inner, here + "  ")


def _leaf(name: str, field: FieldInfo, given: Mapping[str, Any], indent: str, marks: _Marks) -> Iterator[str]:
    words = "; ".join(part for part in (marks.words, *_description(name, field)) if part)
    if name in given:
        yield from _line(f"{indent}{name}: {flow(given[name])}", words, indent)
    elif not field.is_required():
        default = _plain(field.get_default(call_default_factory=True))
        yield from _line(f"{_as_comment(indent)}{name}: {flow(default)}", words, indent)


def _line(text: str, words: str, indent: str) -> Iterator[str]:
    """A key with its words behind it, or above it where the line would be long."""
    if words and len(text) + len(words) + 4 > _WIDTH and EDIT not in words:
        yield f"{indent.replace('#', ' ')}## {words}"
        yield text
    else:
        yield f"{text}  # {words}" if words else text


def _loss_options(given: Mapping[str, Any], indent: str) -> Iterator[str]:
    """The options of the loss that is named, beside its name."""
    loss = None if given.get("terms") else given.get("loss", Method.model_fields["loss"].default)
    if loss is None:
        return
    for name, option in LOSS_TABLE[loss].options.items():
        words = f"option of {loss}{_bounds(option)}; default {flow(option.surrogate)}"
        if name in given:
            yield from _line(f"{indent}{name}: {flow(given[name])}", words, indent)
        else:
            yield from _line(f"{_as_comment(indent)}{name}: {flow(option.surrogate)}", words, indent)


def _bounds(option: Option) -> str:
    if option.choices:
        return f", one of: {', '.join(option.choices)}"
    return f",{option.bounds}" if option.bounds and not isinstance(option.default, bool) else ""


def _instead_of_null(section: type[BaseModel], indent: str) -> Iterator[str]:
    """What a section that is null by default could hold."""
    place = indent.replace("#", " ")
    yield f"{place}## instead of null, indented below it:"
    for name, field in section.model_fields.items():
        text = "REQUIRED" if field.is_required() else flow(_plain(field.get_default(call_default_factory=True)))
        words = "; ".join(_description(name, field))
        yield f"{place}##   {name}: {text}" + (f"  # {words}" if words else "")


def _description(name: str, field: FieldInfo) -> list[str]:
    """What the recipe says of a key, then the values that it may have."""
    choices = [str(value) for value in _choices(field.annotation)]
    words = [field.description] if field.description else []
    if name == "loss":
        return [
            "`mmpo losses` explains them",
            "one of: " + ", ".join(name for name, entry in LOSS_TABLE.items() if not untrainable(entry)),
        ]
    return [*words, *(["one of: " + ", ".join(choices)] if choices else [])]


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType, list):
        return tuple(value for part in get_args(annotation) for value in _choices(part))
    return ()


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds; a reward is a value, since its options are its own."""
    parts = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    sections = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return sections[0] if sections and sections[0] is not RewardSpec else None


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0] if section.__doc__ else ""


def _as_comment(indent: str) -> str:
    """The place of a line turned into that of a comment, once."""
    return indent if "#" in indent else f"{indent}# "
