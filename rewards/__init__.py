"""Rewards by name. Ours stand in `table.py`; another package adds one by an entry point of group `mmpo.rewards`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from mmpo.suggest import nearest, one_of
from rewards.table import REWARD_TABLE

if TYPE_CHECKING:
    from rewards.scores import Candidate, Comparison, Judge, Response, Reward, Scores
else:

    def __getattr__(name: str) -> Any:
        """The contract's classes when they are asked for: the table alone needs no numpy."""
        if name not in __all__:
            raise AttributeError(f"module 'rewards' has no attribute '{name}'")
        return getattr(import_module("rewards.scores"), name)


GROUP = "mmpo.rewards"


def names() -> dict[str, str]:
    """ "module:callable" of every reward that can be loaded, by name."""
    ours = {name: entry.target for name, entry in REWARD_TABLE.items()}
    return {**{point.name: point.value for point in entry_points(group=GROUP)}, **ours}


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuses what `load` would not take, without importing a reward; of other packages' it knows no options.

    Args:
        name: of a reward.
        options: what it would be called with.
    Raises:
        ValueError: unknown name or option, with the nearest that there is; or no batch at all.
    """
    known = names()
    if name not in known:
        raise ValueError(f"reward: {one_of(name, known)}")
    entry = REWARD_TABLE.get(name)
    if entry is None:
        return
    for option in options:
        if option not in entry.options:
            near = nearest(option, entry.options)
            hint = f"did you mean '{near}'? " if near else ""
            valid = ", ".join(sorted(entry.options)) or "none"
            raise ValueError(f"reward {name}: unknown option '{option}'; {hint}valid: {valid}")
    rows = options.get("batch_size", 1)
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"reward {name}: batch_size: expected a whole number from 1 on, got {rows!r}")


def load(name: str, **options: Any) -> Reward:
    """A reward by name, with its options.

    Raises:
        ValueError: unknown name, or options that the reward does not take.
    """
    check(name, options)
    known = names()
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)(**options)
    except TypeError as error:
        raise ValueError(f"reward {name}: {error}") from error


__all__ = ["Candidate", "Comparison", "Judge", "Response", "Reward", "Scores", "check", "load", "names"]
