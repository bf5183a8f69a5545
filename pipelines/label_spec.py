"""`--reward NAME,option=value,as=COLUMN`: which rewards label, and what their columns are called. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rewards
from mmpo.recipe_files import parse_yaml
from rewards.table import REWARD_TABLE

TEXTS = ("weights", "revision", "device", "dtype", "url", "model")
"""Options that are text also where they look like a number."""
NEUTRAL = ("batch_size", "device")
"""Options that do not change scores."""


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """One reward to label with.

    Args:
        column: what its scores are called.
    """

    name: str
    column: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def telling(self) -> dict[str, Any]:
        """The options that may change scores."""
        return {name: value for name, value in self.options.items() if name not in NEUTRAL}


def parse_specs(texts: Sequence[str], kind: str) -> list[RewardSpec]:
    """The rewards of a command line, checked against the table.

    Args:
        kind: of the candidates, a name of `mmpo.data.candidates.KINDS`.
    Raises:
        ValueError: none, an unknown name or option, two of one column, or a reward that does not score such candidates.
    """
    if not texts:
        raise ValueError(f"--reward: name at least one; valid: {', '.join(sorted(rewards.names()))}")
    specs = [_parse(text) for text in texts]
    for number, spec in enumerate(specs):
        if spec.column in [other.column for other in specs[:number]]:
            raise ValueError(
                f"--reward {texts[number]}: the column '{spec.column}' is taken; call it otherwise with ,as=NAME"
            )
        _check_takes(spec, kind)
    return specs


def _parse(text: str) -> RewardSpec:
    name, *parts = _split(text)
    name = name.strip()
    rewards.check(name, {})
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise ValueError(f"--reward {text}: '{part}' is no option; expected NAME,option=value,as=COLUMN")
        if key in options:
            raise ValueError(f"--reward {text}: the option '{key}' stands twice")
        options[key] = value if key in (*TEXTS, "as") else parse_yaml(value, f"--reward {text}: {key}")
    column = options.pop("as", name)
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", column):
        raise ValueError(f"--reward {text}: as={column} names a folder; use letters, digits and . _ + -")
    rewards.check(name, options)
    return RewardSpec(name, column, options)


def _split(text: str) -> list[str]:
    """The pieces between commas; one inside brackets or double quotes belongs to the value."""
    pieces, depth, quoted = [""], 0, False
    for sign in text:
        quoted ^= sign == '"'
        depth += ((sign in "[{") - (sign in "]}")) * (not quoted)
        if sign == "," and depth == 0 and not quoted:
            pieces.append("")
        else:
            pieces[-1] += sign
    return pieces


def _check_takes(spec: RewardSpec, kind: str) -> None:
    entry = REWARD_TABLE.get(spec.name)
    wanted = "response" if kind == "answers" else "image"
    if entry is None or wanted in entry.takes:
        return
    scores = {"image": "images for a prompt", "response": "text answers about an image", "pair": "pairs only"}
    able = [name for name, other in REWARD_TABLE.items() if wanted in other.takes]
    raise ValueError(
        f"--reward {spec.name}: scores {' and '.join(scores[takes] for takes in entry.takes)}, and these candidates "
        f"are {scores[wanted]}; {', '.join(sorted(able))} can"
    )
