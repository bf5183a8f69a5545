"""What a run trains on, and stored preferences as that: read, encoded once, some of them held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from mmpo.contracts import Predict
from mmpo.data.encoded import EncodedGroups
from mmpo.data.encoding import EncodedRow, best_and_worst
from mmpo.data.readers import OpenPairs
from mmpo.data.split import hold_out
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.recipe import Recipe
from mmpo.records import content_id
from mmpo.rollout_recipe import RewardSpec
from mmpo.training.heldout import Groups
from mmpo.training.order import unit_of
from mmpo.training.rounds import Rounds
from mmpo.training.size_order import size_order
from pipelines.prepare import encode_data, make_data

Say = Callable[[str], None]
Bind = Callable[[nn.Module], Predict]


@dataclass(frozen=True)
class Feed:
    """What a run trains on.

    Args:
        train, held_out: groups; with rounds both are empty at first.
        clusters: per held-out group the name of its prompt.
        identity: what a resume must find unchanged.
        prompts: texts of the held-out and of the training data, for previews.
        rewards: that are loaded, with what the recipe says of each.
        rounds: given how a module is bound, the rounds of own samples; None: `train` stays.
    """

    train: Groups
    held_out: Groups
    clusters: Sequence[str]
    identity: Mapping[str, str]
    prompts: Sequence[Sequence[str]] = field(default_factory=list)
    rewards: Sequence[tuple[RewardSpec, Any]] = ()
    rounds: Callable[[Bind], Rounds] | None = None


def stored_feed(
    recipe: Recipe,
    config: CheckpointConfig,
    base: Any,
    accelerator: Accelerator,
    resolution: int,
    folder: Path,
    say: Say,
    *,
    opened: OpenPairs | None = None,
) -> Feed:
    """Stored preferences, made where the recipe says how, encoded once.

    Args:
        base: what training begins from; see `pipelines.build.Base`.
        opened: pairs that were found already, in place of the recipe's data.
    Raises:
        ValueError: nothing is left to train on.
    """
    if opened is None:
        with accelerator.main_process_first():
            make_data(recipe, base.pipeline, base.checkpoint, say if accelerator.is_main_process else _silent)
    rows, caches = encode_data(recipe, config, base.pipeline, base.hashes, accelerator, resolution, say, opened=opened)
    train_rows, held_rows = hold_out(rows, recipe.evaluation.held_out_pairs)
    held_rows = [best_and_worst(row) for row in held_rows]  # held-out preferences are of pairs, for lists too
    if not train_rows:
        sides = ", ".join(sorted({row.prompt.split for row in rows}))
        raise ValueError(
            f"data.path {recipe.data.path}: no training pairs are left; its {len(rows)} pairs are of: {sides}"
        )
    say(f"{len(train_rows)} training pairs, {len(held_rows)} held out{_held_out_note(recipe, held_rows)}")
    order = size_order([row.size for row in train_rows], unit_of(recipe.train), recipe.train.seed)
    if order is not None and order.waiting:
        alone = "train.micro_batch_size: 1 lets none wait"
        say(f"{order.waiting} training pairs wait for a later pass, since a forward is of one size ({alone})")
    return Feed(
        train=EncodedGroups(train_rows, caches, config.family.image_conditions, mirrored=recipe.data.flip > 0),
        held_out=EncodedGroups(held_rows, caches, config.family.image_conditions),
        clusters=[row.prompt.cluster for row in held_rows],
        identity={
            "training rows": content_id([_told(row) for row in train_rows]),
            "held-out rows": content_id([row.id for row in held_rows]),
        },
        prompts=[[row.prompt.text for row in side] for side in (held_rows, train_rows)],
    )


def _held_out_note(recipe: Recipe, held_rows: Sequence[EncodedRow]) -> str:
    sides = sorted({row.prompt.split for row in held_rows} - {"", "train"})
    if sides:
        return f" (split: {', '.join(sides)})"
    if not held_rows and recipe.evaluation.held_out_pairs:
        return ": too few pairs, so there is no held-out evaluation and no guard on it"
    return ""


def _told(row: EncodedRow) -> Any:
    """What a row says beside its images and prompt, which its id holds: captions, and columns that a loss asked for."""
    return (row.id, row.captions, row.extra) if row.captions or row.extra else row.id


def _silent(text: str) -> None:
    pass
