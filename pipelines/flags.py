"""The flags people type for diffusers' and TRL's scripts, turned into overrides of a recipe. Imports no torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmpo.recipe import Recipe
from mmpo.recipe_files import nearest_keys, parse_yaml
from pipelines.flag_meanings import SPECIAL, combine
from pipelines.flag_parts import Flag, Gathered, is_override
from pipelines.flag_table import HARMLESS, HARMLESS_WITH_VALUE, REFUSED, SHORT, SWITCHES, TEXTS, VALUES

OWN = ("dry_run", "resume", "help", "version")
"""Options of `mmpo train` itself."""
_NEAR = 0.8


class Translated(NamedTuple):
    """What to give to the command line instead, and a line for each flag that was turned into something else."""

    arguments: list[str]
    notes: list[str]


def translate(arguments: Sequence[str], *, num_processes: int = 1, own: Sequence[str] = OWN) -> Translated:
    """`mmpo train` with diffusers' and TRL's flags, as `section.key=value` overrides behind the other arguments.

    Args:
        arguments: what stands after `mmpo`; any command but `train` is returned as it is.
        num_processes: that the launcher will start, for batch sizes that are counted per process.
        own: options of `mmpo train` itself, which are left in place.
    Raises:
        ValueError: a flag without its value, for what mmpo has not, or an unknown one; with the fix.
    """
    if not arguments or arguments[0] != "train":
        return Translated(list(arguments), [])
    ours = {_plain(name) for name in own}
    gathered = Gathered(kept=["train"])
    rest, behind = list(arguments[1:]), []
    if "--" in rest:
        at = rest.index("--")
        rest, behind = rest[:at], rest[at:]
    while rest:
        token = rest.pop(0)
        short, equals, value = token.partition("=")
        if short in SHORT:
            short = f"--{SHORT[short]}"
            token = short + equals + value
        name = short.removeprefix("--")
        if not token.startswith("--"):
            gathered.kept.append(token)
        elif _plain(name) in ours:
            gathered.kept.append("--" + _plain(name).replace("_", "-") + equals + value)
        elif not _take(Flag(f"--{name}", _plain(name), value if equals else None, rest), gathered):
            raise ValueError(f"--{name}: {_unknown(_plain(name), ours)}")
    combine(gathered, num_processes)
    for token in gathered.kept:
        key = token.partition("=")[0]
        if is_override(token) and key in gathered.set_by:
            raise ValueError(f"{gathered.set_by[key]} and {token} both set {key}; give one of them")
    return Translated([*gathered.kept, *gathered.overrides, *behind], gathered.notes)


def split_recipe(positional: Sequence[str]) -> tuple[str | None, list[str]]:
    """(the recipe, the overrides) of `mmpo train [RECIPE] [KEY=VALUE]...`; overrides alone can be a whole recipe."""
    if positional and not ("=" in positional[0] and not Path(positional[0]).exists()):
        return positional[0], list(positional[1:])
    return None, list(positional)


def known_flags() -> list[str]:
    """Every flag that is understood, or refused with words of its own."""
    return sorted({*VALUES, *SWITCHES, *HARMLESS, *HARMLESS_WITH_VALUE, *REFUSED, *SPECIAL})


def _take(flag: Flag, gathered: Gathered) -> bool:
    """Whether the flag is known; its effect is then in what was gathered."""
    name = flag.name
    if "." in name and name.split(".")[0] in Recipe.model_fields:
        gathered.put(flag.typed, name, flag.value(), f"{flag.typed} VALUE is {name}=VALUE here")
    elif name in VALUES:
        gathered.put(flag.typed, VALUES[name], _as_yaml(VALUES[name], flag.value()))
    elif name in SWITCHES:
        gathered.put(flag.typed, SWITCHES[name], "true" if flag.truth() else "false")
    elif name in SPECIAL:
        SPECIAL[name](flag, gathered)
    elif name in HARMLESS:
        flag.truth()
        gathered.notes.append(f"{flag.typed} {HARMLESS[name]}")
    elif name in HARMLESS_WITH_VALUE:
        flag.value()
        gathered.notes.append(f"{flag.typed} {HARMLESS_WITH_VALUE[name]}")
    elif name in REFUSED:
        wanted = flag.inline.lower() != "false" if flag.inline is not None else flag.truth()
        if wanted:
            raise ValueError(f"{flag.typed}: {REFUSED[name]}")
    else:
        return False
    return True


def _as_yaml(key: str, value: str) -> str:
    """A value as an override takes it: text stays text where YAML would read a number or a list."""
    if key not in TEXTS:
        return value
    try:
        same = parse_yaml(value, key) == value
    except ValueError:
        same = False
    return value if same else json.dumps(value)


def _unknown(name: str, ours: set[str]) -> str:
    """What to do about a flag that nobody knows."""
    found = difflib.get_close_matches(name, [*known_flags(), *ours], n=1, cutoff=_NEAR)
    if found:
        return f"no such flag; did you mean --{found[0].replace('_', '-') if found[0] in ours else found[0]}?"
    keys = nearest_keys(name)
    near = f"; the nearest key is {' or '.join(keys)}" if keys else ""
    return (
        f"no such flag; settings are given as section.key=value, such as optim.lr=1e-5{near}. `mmpo init` writes a "
        "recipe with every key, `mmpo schema` describes them"
    )


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()
