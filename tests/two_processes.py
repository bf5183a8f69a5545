"""Trains recipes in each of several processes, or in this one, and records which groups and draws each process saw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpo.contracts import Batch, Draw
from mmpo.models.checkpoint import read_config
from mmpo.recipe_files import validate
from mmpo.training.loop import Trainer
from pipelines.build import build_accelerator, build_run


class Recording:
    """An adapter that writes down the training's own draws: group id, visit, time, sum of the noise."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.logp = adapter.logp
        self.seen: list[tuple[str, int, float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def draw(self, batch: Batch, seed: int, visit: Any = None, *, band: tuple[float, float] | None = None) -> Draw:
        """The adapter's draw, recorded unless it is the held-out evaluation's."""
        draw = self._adapter.draw(batch, seed, visit, band=band)
        if band is None:
            none = draw.noise.dim() == 1  # steps of a sampler were drawn when they were sampled
            sums = [0.0] * len(batch.ids) if none else draw.noise.double().flatten(1).sum(1).tolist()
            self.seen.extend(zip(batch.ids, batch.visits, draw.time.tolist(), sums, strict=True))
        return draw


def train_recorded(file: Path, *, resume: bool = False) -> None:
    """One run through the ordinary build and loop; writes rankN.json into the run's folder."""
    recipe = validate(json.loads(file.read_text()))
    accelerator = build_accelerator(recipe)
    folder = Path(recipe.output)
    run, _ = build_run(recipe, read_config(recipe.model.path), accelerator, folder, lambda text: None)
    run.adapter = recording = Recording(run.adapter)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    Trainer(run, resume=resume).train()
    (folder / f"rank{accelerator.process_index}.json").write_text(json.dumps(recording.seen))
    accelerator.wait_for_everyone()


def main(names: Sequence[str]) -> None:
    """Trains RECIPE.json or RECIPE.json:resume, one after the other."""
    for name in names:
        train_recorded(Path(name.removesuffix(":resume")), resume=name.endswith(":resume"))
