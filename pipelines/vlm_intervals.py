"""Figures that are made of counts, with 95 % intervals: counts are resampled by whole images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpo.training.statistics import RESAMPLES

Counts = Mapping[str, NDArray[np.float64]]
"""Sums by name: of all units, or of each resample."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted of one answer (or of one group of them).

    Args:
        cluster: units of equal clusters are resampled together: the image, mostly.
        counts: numbers by name; a name that is missing is 0.
        stratum: clusters are resampled within each.
    """

    cluster: str
    counts: Mapping[str, float]
    stratum: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that is a function of sums.

    Args:
        of: sums -> the figure; NaN where it is not defined.
        unit: "%" or what else it counts.
        higher: whether higher is better; None where neither is.
    """

    of: Callable[[Counts], NDArray[np.float64]]
    unit: str = "%"
    higher: bool | None = True


@dataclass(frozen=True, slots=True)
class Tally:
    """Units, and the measures that they are summed for."""

    units: Sequence[Unit]
    measures: Mapping[str, Measure]


def share(part: str, whole: str) -> Callable[[Counts], NDArray[np.float64]]:
    """100 · part / whole; NaN where the whole is 0."""
    return lambda counts: 100 * ratio(counts[part], counts[whole])


def mean(part: str, whole: str) -> Callable[[Counts], NDArray[np.float64]]:
    """part / whole; NaN where the whole is 0."""
    return lambda counts: ratio(counts[part], counts[whole])


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Element by element; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) != 0)


def figures(tally: Tally, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{measure: {value, low, high, unit, higher_is_better, clusters}}, with a percentile bootstrap over clusters.

    Of one cluster there is no interval; what is not defined is None.

    Args:
        seed: of the resampling.
    Raises:
        ValueError: no units.
    """
    table = _Table(tally.units)
    drawn = table.drawn(seed)
    found = {}
    for name, measure in tally.measures.items():
        low, high = _ends(measure.of(table.sums(drawn)), table)
        found[name] = {
            "value": _number(measure.of(table.sums(None))),
            "low": low,
            "high": high,
            **_about(measure, table),
        }
    return found


def differences(base: Tally, tuned: Tally, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{measure: {base, tuned, difference, low, high, ...}}: the same clusters are drawn for both sides.

    Raises:
        ValueError: the two are not of the same clusters.
    """
    one, two = _Table(base.units), _Table(tuned.units)
    if one.clusters != two.clusters:
        raise ValueError("the two files of answers are not about the same images; answer the same questions with both")
    drawn = one.drawn(seed)
    found = {}
    for name, measure in tuned.measures.items():
        before, after = (_number(measure.of(table.sums(None))) for table in (one, two))
        low, high = _ends(measure.of(two.sums(drawn)) - measure.of(one.sums(drawn)), one)
        gap = None if before is None or after is None else after - before
        found[name] = {
            "base": before,
            "tuned": after,
            "difference": gap,
            "low": low,
            "high": high,
            **_about(measure, one),
        }
    return found


class _Table:
    """Sums of each cluster by name, in the order of the clusters' names."""

    def __init__(self, units: Sequence[Unit]) -> None:
        if not units:
            raise ValueError("nothing to count: no answer belongs to a question")
        self.clusters = sorted({(unit.stratum, unit.cluster) for unit in units})
        places = {cluster: number for number, cluster in enumerate(self.clusters)}
        self.names = list(dict.fromkeys(name for unit in units for name in unit.counts))
        columns = {name: number for number, name in enumerate(self.names)}
        self.values = np.zeros((len(places), len(columns)))
        for unit in units:
            for name, number in unit.counts.items():
                self.values[places[unit.stratum, unit.cluster], columns[name]] += number

    def drawn(self, seed: int) -> NDArray[np.float64]:
        """[resamples, clusters]: how often each cluster is drawn; as many of each stratum as it has."""
        generator = np.random.default_rng(seed)
        strata = [stratum for stratum, _ in self.clusters]
        parts = []
        for stratum in dict.fromkeys(strata):  # sorted, so that a stratum's clusters stand together
            count = strata.count(stratum)
            parts.append(generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES))
        return np.concatenate(parts, axis=1).astype(np.float64)

    def sums(self, drawn: NDArray[np.float64] | None) -> Counts:
        """Sums by name, of everything or of each resample; a name that nothing has is 0."""
        sums = self.values.sum(0) if drawn is None else drawn @ self.values
        return _Sums(zip(self.names, sums.T, strict=True))


class _Sums(dict[str, NDArray[np.float64]]):
    """Zeros where a name is missing."""

    def __missing__(self, name: str) -> NDArray[np.float64]:
        return np.zeros_like(next(iter(self.values())))


def _ends(values: NDArray[np.float64], table: _Table) -> tuple[float | None, float | None]:
    kept = values[~np.isnan(values)]
    if len(table.clusters) < 2 or not len(kept):
        return None, None
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _about(measure: Measure, table: _Table) -> dict[str, Any]:
    return {"unit": measure.unit, "higher_is_better": measure.higher, "clusters": len(table.clusters)}
