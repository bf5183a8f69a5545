"""Base against trained: how often each agrees with people, with intervals clustered by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mmpo.models.loading import weights_hash
from mmpo.training.statistics import clustered_mean
from rewards.pair_data import PairSet
from rewards.pair_metrics import Numbers, best_threshold, pair_accuracy, tie_aware_accuracy
from rewards.pair_scores import score_pairs
from rewards.pair_state import PairRun, base_scores

RESULT = "evaluation.json"


def evaluate_reward(run: PairRun, weights_step: int) -> dict[str, Any] | None:
    """What evaluation.json holds; None where there is nothing to compare on. Every process calls it.

    Args:
        run: the trained model holds the weights to judge.
        weights_step: their step.
    """
    size = run.recipe.train.micro_batch_size or run.recipe.train.batch_size
    tuned = {name: score_pairs(run.accelerator, run.model, pairs, size) for name, pairs in run.sets.items()}
    if not tuned or not run.accelerator.is_main_process:
        return None
    base = base_scores(run)
    thresholds = _thresholds(run, base, tuned)
    measures: dict[str, Any] = {}
    for name, pairs in run.sets.items():
        columns = [_columns(scores[name], pairs, run.model.timesteps) for scores in (base, tuned)]
        if thresholds is not None and name == "evaluation":
            label = pairs.labels.numpy()
            for column, scores, threshold in zip(columns, (base, tuned), thresholds, strict=True):
                first, second = scores[name][0].T
                column["tie_aware_accuracy"] = tie_aware_accuracy(first, second, label, threshold)
        for measure in columns[0]:
            measures[f"{name}/{measure}"] = _compared(columns[0][measure], columns[1][measure], pairs)
    known = {row.prompt.cluster for row in run.train.rows}
    further = run.sets.get("evaluation")
    return {
        "measures": measures,
        "held_out_chose": weights_step,
        "tie_thresholds": dict(zip(("base", "tuned"), thresholds, strict=True)) if thresholds is not None else None,
        "data": run.recipe.evaluation.data.model_dump(mode="json") if run.recipe.evaluation.data else None,
        "pairs_of_trained_prompts": sum(name in known for name in further.clusters) if further else 0,
        "seed": run.recipe.train.seed,
        "settings_tried": run.recipe.evaluation.settings_tried,
        "weights": {"base": run.identity["base weights"], "tuned": weights_hash(run.model.module)},
    }


def reward_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The measures as a table for a terminal."""
    yield f"{'measure':<32} {'base':>6} {'trained':>8} {'95 % interval':<16} {'difference':>10}  95 % interval"
    for name, row in result["measures"].items():
        own = f"[{row['tuned_low']:.3f}, {row['tuned_high']:.3f}]"
        yield (
            f"{name:<32} {row['base']:>6.3f} {row['tuned']:>8.3f} {own:<16} {row['difference']:>+10.3f}  "
            f"[{row['low']:+.3f}, {row['high']:+.3f}]  ({row['samples']} pairs, {row['prompts']} prompts)"
        )
    if any(name.startswith("held_out/") for name in result["measures"]):
        yield f"held-out pairs chose the weights (of step {result['held_out_chose']}), so theirs flatter the trained"
    if result["pairs_of_trained_prompts"]:
        yield f"warning: {result['pairs_of_trained_prompts']} evaluation pairs have prompts that were trained on"


def _thresholds(run: PairRun, base: Mapping[str, Numbers], tuned: Mapping[str, Numbers]) -> tuple[float, float] | None:
    """PickScore's tie threshold of base and of trained, chosen on the held-out pairs; None where no tie is met."""
    sets = run.sets
    if len(sets) < 2 or len(run.model.timesteps) > 1:
        return None
    if not any(bool((pairs.labels == 0.5).any()) for pairs in sets.values()):
        return None
    label = sets["held_out"].labels.numpy()
    own = [scores["held_out"][0] for scores in (base, tuned)]
    before, after = (best_threshold(scores[:, 0], scores[:, 1], label) for scores in own)
    return before, after


def _columns(scores: Numbers, pairs: PairSet, timesteps: Any) -> dict[str, Numbers]:
    """Per measure [N]; with several timesteps the mean over them, then each."""
    label = pairs.labels.numpy()
    rows = [pair_accuracy(part[:, 0], part[:, 1], label) for part in scores]
    columns = {"pair_accuracy": np.mean(rows, axis=0)}
    if len(rows) > 1:
        columns |= {f"pair_accuracy@{timestep}": row for timestep, row in zip(timesteps, rows, strict=True)}
    return columns


def _compared(base: Numbers, tuned: Numbers, pairs: PairSet) -> dict[str, Any]:
    """Means, the trained one's interval, and the difference with its own; ties that say nothing are left out."""
    said = np.isfinite(base)
    clusters = [cluster for cluster, keep in zip(pairs.clusters, said, strict=True) if keep]
    difference = clustered_mean((tuned - base)[said], clusters)
    before, after = clustered_mean(base[said], clusters), clustered_mean(tuned[said], clusters)
    return {
        "base": before.mean,
        "base_low": before.low,
        "base_high": before.high,
        "tuned": after.mean,
        "tuned_low": after.low,
        "tuned_high": after.high,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "prompts": len(set(clusters)),
        "samples": len(clusters),
        "higher_is_better": True,
    }
