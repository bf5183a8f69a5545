"""Signs that a reward is gamed: a look at the validation samples against the first one. Pure functions, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpo.training.guard import LEAST_PROMPTS
from mmpo.training.statistics import Interval, clustered_mean
from mmpo.validation_recipe import Alarms

WORDS = {
    "saturation": "the images' mean saturation",
    "clipped": "the share of channel values at the ends of the range",
    "sharpness": "the images' sharpness",
    "diversity": "the distance between samples of one prompt",
    "diversity_across": "the distance between samples of different prompts",
}
"""What is measured of the images, and its name in a sentence."""


@dataclass(frozen=True)
class Look:
    """What the same N validation samples were at one step.

    Args:
        step: optimiser steps done.
        identity: of prompts, noise, sampling and rewards; looks with another one are not compared.
        clusters: [N] name of each sample's prompt.
        rewards: per reward [N] scores, NaN where one failed.
        images: per name in `WORDS` [N].
        trained: names of the rewards that the policy is trained on.
        failures: why samples have no score.
    """

    step: int
    identity: str
    clusters: Sequence[str]
    rewards: Mapping[str, Sequence[float]]
    images: Mapping[str, Sequence[float]]
    trained: Sequence[str] = ()
    failures: Sequence[str] = field(default_factory=list)

    @property
    def prompts(self) -> int:
        """Distinct prompts."""
        return len(set(self.clusters))

    def as_dict(self) -> dict[str, Any]:
        """As JSON, which has no NaN."""
        plain = asdict(self)
        for part in ("rewards", "images"):
            plain[part] = {k: [None if v != v else float(v) for v in row] for k, row in plain[part].items()}
        return plain

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Look:
        """What `as_dict` made, back."""
        parts = {p: {k: [_number(v) for v in row] for k, row in plain[p].items()} for p in ("rewards", "images")}
        return Look(**{**plain, **parts})


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def mean_of(values: Sequence[float]) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    array = np.asarray(values, np.float64)
    return float(np.nanmean(array)) if np.isfinite(array).any() else float("nan")


def change(first: Sequence[float], now: Sequence[float], clusters: Sequence[str]) -> Interval | None:
    """Mean difference of the same samples, its interval over prompts; None where no sample has both values."""
    both = np.asarray(now, np.float64) - np.asarray(first, np.float64)
    return clustered_mean(both, clusters) if np.isfinite(both).any() else None


def alarms(first: Look, now: Look, settings: Alarms) -> dict[str, str]:
    """What is wrong with the samples, a sentence by what it is about; empty where nothing is, or with few prompts.

    Every sign needs its threshold and an interval over prompts that does not hold 0: a few odd samples are no sign.
    Below ten prompts an interval says nothing, and so does this.

    Args:
        first: the look that all are compared with.
        now: of the same samples.
        settings: thresholds; see `mmpo.validation_recipe.Alarms`.
    """
    if first.prompts < LEAST_PROMPTS:
        return {}
    return dict([*_of_images(first, now, settings), *_of_rewards(first, now, settings.reward_fall)])


def _of_images(first: Look, now: Look, settings: Alarms) -> Iterator[tuple[str, str]]:
    for name, words in WORDS.items():
        moved = change(first.images[name], now.images[name], now.clusters)
        if moved is None:
            continue
        before = mean_of(first.images[name])
        after = before + moved.mean
        if _beyond(name, before, after, settings) and (moved.low > 0 or moved.high < 0):
            verb = "rose" if moved.mean > 0 else "fell"
            yield name, f"{words} {verb} from {before:.3g} to {after:.3g}"


def _beyond(name: str, before: float, after: float, settings: Alarms) -> bool:
    """Whether a number of the images left its bounds."""
    if name == "sharpness":
        factor = settings.sharpness_factor
        return factor is not None and not before / factor <= after <= before * factor
    if name in ("diversity", "diversity_across"):
        return settings.diversity_fall is not None and after < before * (1 - settings.diversity_fall)
    limit = settings.saturation_rise if name == "saturation" else settings.clipped_rise
    return limit is not None and after - before > limit


def _of_rewards(first: Look, now: Look, limit: float | None) -> Iterator[tuple[str, str]]:
    """Rewards that fall though they are not trained on, where what is trained on rises (or is not known)."""
    if limit is None:
        return
    moved = {name: change(first.rewards[name], values, now.clusters) for name, values in now.rewards.items()}
    rising = [name for name in now.trained if (by := moved.get(name)) is not None and by.low > 0]
    if now.trained and not rising:
        return
    for name, by in moved.items():
        if name in now.trained or by is None or by.high >= 0 or -by.mean <= limit * _deviation(first.rewards[name]):
            continue
        before = mean_of(first.rewards[name])
        sentence = f"reward {name}, which is not trained on, fell from {before:.4g} to {before + by.mean:.4g}"
        if rising:
            other = rising[0]
            up = mean_of(first.rewards[other])
            sentence += f" while the trained {other} rose from {up:.4g} to {mean_of(now.rewards[other]):.4g}"
        yield f"reward {name}", sentence


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation of what is not NaN."""
    kept: NDArray[np.float64] = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    return float(kept.std()) if len(kept) else 0.0


def begun(looks: Sequence[Look], settings: Alarms) -> dict[str, str]:
    """The alarms that speak at the last of these looks: they held at the last `settings.evaluations` and not before.

    Args:
        looks: of one identity, in order; the first is compared with.
    """
    wanted = settings.evaluations
    if len(looks) <= wanted:
        return {}
    recent = [alarms(looks[0], look, settings) for look in looks[max(1, len(looks) - wanted - 1) :]]
    older, running = (recent[0], recent[1:]) if len(recent) > wanted else ({}, recent)
    return {
        what: sentence
        for what, sentence in running[-1].items()
        if what not in older and all(what in found for found in running)
    }
