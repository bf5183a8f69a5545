"""The members of an ensemble, and what several of them see of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mmpo.suggest import one_of
from rewards.scores import Staged, View
from rewards.staged import staged

KEYS = ("name", "options", "as")


@dataclass(frozen=True)
class Several:
    """Several views of one image.

    Args:
        views: distinct ones.
    """

    views: tuple[View, ...]

    def __call__(self, image: Image.Image) -> tuple[Any, ...]:
        """What each view makes of it, in their order."""
        return tuple(view(image) for view in self.views)


@dataclass(frozen=True)
class Member:
    """One reward of an ensemble, under the name of its parts."""

    name: str
    reward: Staged


def load_members(members: Sequence[Any]) -> list[Member]:
    """The members, loaded.

    Args:
        members: names, {name, options, as}, or rewards.
    Raises:
        ValueError: fewer than two, two of one name, or one that cannot be loaded.
    """
    from rewards import load

    if isinstance(members, str | Mapping) or len(members) < 2:
        raise ValueError(f"ensemble: members: expected two or more, such as [pickscore, clip], got {members!r}")
    found: list[Member] = []
    for said in members:
        if isinstance(said, str):
            member = Member(said, staged(load(said)))
        elif isinstance(said, Mapping):
            wrong = [key for key in said if key not in KEYS]
            if wrong or "name" not in said:
                raise ValueError(f"ensemble: members: {one_of(str(wrong[0]), KEYS) if wrong else f'no name in {said}'}")
            member = Member(said.get("as") or said["name"], staged(load(said["name"], **(said.get("options") or {}))))
        else:
            member = Member(said.name, staged(said))
        if any(member.name == other.name for other in found):
            raise ValueError(
                f"ensemble: members: two are called '{member.name}'; name one by {{name: {member.name}, as: OTHER}}"
            )
        found.append(member)
    return found
