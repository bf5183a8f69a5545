"""What to run next, with the options that were given, so that the line works as it stands. Imports no torch."""

from __future__ import annotations

import shlex
from typing import Any

from pipelines.data_source import Source

READING: dict[str, Any] = {"format": "auto", "split": None, "columns": {}, "rejected": None}  # recipe defaults


def command(*arguments: object) -> str:
    """A line for a shell."""
    return shlex.join(["mmpo", *map(str, arguments)])


def as_flags(source: Source) -> list[str]:
    """How to read the data, as the data commands take it."""
    flags = []
    for name in READING:
        value = source.given.get(name)
        values = [f"{ours}={theirs}" for ours, theirs in value.items()] if isinstance(value, dict) else [value]
        flags += [part for text in values if text for part in (f"--{name}", text)]
    return flags


def as_overrides(source: Source) -> list[str]:
    """How to read the data, as keys of a recipe that it does not have already."""
    path = [] if source.recipe else [override("data.path", source.path)]
    return path + [override(f"data.{name}", source.given[name]) for name in READING if source.given.get(name)]


def of_output(source: Source, output: object) -> list[str]:
    """What a recipe must be told to read what was written: the place, and no longer how the data were read."""
    if not source.recipe:
        return [override("data.path", str(output))]
    back = [override(f"data.{name}", default) for name, default in READING.items() if name in source.options]
    made = ["data.make=null"] if source.made else []
    return [override("data.path", str(output)), *back, *made]


def override(key: str, value: Any) -> str:
    """`section.key=value`, read back as the same value."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=2**30, allow_unicode=True, sort_keys=False)
    return f"{key}={text.removesuffix(chr(10)).removesuffix('...').rstrip()}"
