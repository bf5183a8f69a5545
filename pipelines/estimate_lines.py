"""`mmpo estimate` in words. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.devices import GIB
from pipelines.memory import total

if TYPE_CHECKING:
    from pipelines.estimate import Estimate


def estimate_lines(found: Estimate) -> Iterator[str]:
    """Memory by part, the comparison, time, disk, and what to turn."""
    recipe = found.recipe
    yield f"{recipe.model.path}, {found.resolution} pixels (configs: {found.config.source}); estimated, nothing was run"
    yield ""
    yield "memory of one process, GiB"
    for name, parts in sorted(found.phases.items(), key=lambda item: -total(item[1])):
        yield f"  {name:<28} {total(parts) / GIB:8.2f}"
        for part in sorted(parts, key=lambda part: -part.bytes):
            yield f"    {part.name:<26} {part.bytes / GIB:8.2f}{'' if part.basis == 'counted' else f'  {part.basis}'}"
    yield ""
    yield from _comparison(found)
    yield from _switches(found)
    yield ""
    unit, without = (
        ("groups", "validation") if recipe.rollout else ("pairs", "the data's encoding, held-out evaluations")
    )
    yield f"{found.operations / 1e12:.3g} T operations a step of {recipe.train.batch_size} {unit}"
    if found.seconds is None:
        yield f"time: unknown ({found.speed})"
    else:
        hours = found.seconds * found.steps / 3600
        yield f"time: {found.seconds:.3g} seconds a step, {hours:.3g} hours for {found.steps} steps ({found.speed})"
        yield f"  without {without} and previews"
    yield ""
    yield "disk"
    for name, size in found.disk.items():
        yield f"  {name:<32} {_size(size)}"
    yield ""
    for note in found.notes:
        yield f"note: {note}"


def _comparison(found: Estimate) -> Iterator[str]:
    needed = found.peak / GIB
    if found.memory is None:
        yield f"needs {needed:.2f} GiB; the device's memory is unknown: say --memory GIB"
    else:
        verdict = "fits" if found.fits else "does not fit"
        yield f"needs {needed:.2f} GiB of {found.memory:.1f} on {found.device.name}: it {verdict}"


def _switches(found: Estimate) -> Iterator[str]:
    if found.fits is not False:
        return
    yield ""
    yield "each of these alone saves, GiB"
    for turn in found.turns:
        saved = (found.peak - turn.bytes) / GIB
        yield f"  {saved:8.2f}  {' '.join(turn.overrides)}  ({turn.cost})"
    if found.fits_with is None:
        yield "no set of them fits"
    else:
        yield f"it fits with: {' '.join(found.fits_with)}"


def _size(size: int) -> str:
    return f"{size / 1e9:8.2f} GB" if size >= 1e8 else f"{size / 1e6:8.2f} MB"
