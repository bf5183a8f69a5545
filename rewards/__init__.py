"""Rewards by name. Ours stand in `table.py`; another package adds one by an entry point of group `mmpo.rewards`."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from rewards.scores import Candidate, Response, Reward, Scores
from rewards.table import REWARD_TABLE

GROUP = "mmpo.rewards"


def names() -> dict[str, str]:
    """ "module:class" of every reward that can be loaded, by name."""
    ours = {name: entry.target for name, entry in REWARD_TABLE.items()}
    return {**{point.name: point.value for point in entry_points(group=GROUP)}, **ours}


def load(name: str, **options: Any) -> Reward:
    """A reward by name, with its options.

    Raises:
        ValueError: unknown name, or options that the reward does not take.
    """
    known = names()
    if name not in known:
        from mmpo.suggest import one_of

        raise ValueError(f"reward: {one_of(name, known)}")
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)(**options)
    except TypeError as error:
        raise ValueError(f"reward {name}: {error}") from None


__all__ = ["Candidate", "Response", "Reward", "Scores", "load", "names"]
