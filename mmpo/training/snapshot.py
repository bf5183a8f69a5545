"""A run's state as a checkpoint, and back: exact, so that a resumed run is the uninterrupted one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from mmpo.contracts import Refreshable
from mmpo.training.checkpoints import Checkpoint
from mmpo.training.ema import MovingAverage
from mmpo.training.guard import CollapseGuard
from mmpo.training.optimizer_state import pack, unpack
from mmpo.training.rounds import Round
from mmpo.training.run import Run
from mmpo.training.sharding import like, whole

RESUMABLE_CHANGES = (
    "output",
    "push_to_hub",
    *(f"train.{key}" for key in ("steps", "checkpoint_every", "keep_checkpoints", "log_every", "report_to")),
    *(
        f"evaluation.{key}"
        for key in (
            "every",
            "guard.",
            "previews.",
            "validation",
            "prompts",
            "limit",
            "samples",
            "seed",
            "sampling.",
            "rewards",
            "settings_tried",
        )
    ),
)


def take(run: Run, optimizer: Any, ema: MovingAverage | None, guard: CollapseGuard, step: int, at: Round) -> Checkpoint:
    """The state after `step` steps, in round `at`; with the random states of all processes, each of which calls it."""
    weights = whole({name: p.detach() for name, p in run.parameters().items()})
    inner = getattr(optimizer, "optimizer", optimizer)
    optimizer_tensors, optimizer_rest = pack(inner)
    tensors: dict[str, Mapping[str, Tensor]] = {"weights": weights, "optimizer": whole(optimizer_tensors)}
    if ema is not None:
        tensors["ema"] = whole(ema.shadow)
    if _refreshes(run) and isinstance(run.reference, Refreshable):
        tensors["reference"] = whole({name: p.detach() for name, p in run.reference.tensors().items()})
    tensors["random"], python_random = random_states(run.accelerator)
    scaler = run.accelerator.scaler
    return Checkpoint(
        step=step,
        tensors=tensors,
        state={
            "optimizer": optimizer_rest,
            "guard": guard.state(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "python_random": python_random,
            "identity": dict(run.identity),
            "round": at.state(),
            "recipe": run.recipe.model_dump(mode="json"),
        },
    )


@torch.no_grad()
def put_back(
    run: Run, optimizer: Any, ema: MovingAverage | None, guard: CollapseGuard, checkpoint: Checkpoint
) -> Round:
    """Restores a checkpoint into the run's parts; the round that it was in.

    Raises:
        ValueError: the checkpoint is of another recipe, other data or other base weights; names what differs.
    """
    check_same(run.identity, run.recipe.model_dump(mode="json"), checkpoint.state, RESUMABLE_CHANGES)
    weights = checkpoint.tensors["weights"]
    parameters = run.parameters()
    if set(weights) != set(parameters):
        odd = sorted(set(weights) ^ set(parameters))
        raise ValueError(f"--resume: the checkpoint's weights are not this model's ({odd[0]}, {len(odd)} differ)")
    for name, parameter in parameters.items():
        parameter.copy_(like(weights[name], parameter))
    inner = getattr(optimizer, "optimizer", optimizer)
    unpack(inner, checkpoint.tensors["optimizer"], checkpoint.state["optimizer"])
    if ema is not None:
        shadow = checkpoint.tensors["ema"]
        ema.shadow = {name: like(t.to(parameters[name].device), parameters[name]) for name, t in shadow.items()}
    guard.restore(checkpoint.state["guard"])
    if run.accelerator.scaler is not None and checkpoint.state["scaler"] is not None:
        run.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    if _refreshes(run) and isinstance(run.reference, Refreshable):
        kept = checkpoint.tensors["reference"]
        for name, parameter in run.reference.tensors().items():
            parameter.copy_(like(kept[name].to(parameter.device), parameter))
    restore_random(run.accelerator, checkpoint)
    return Round(**checkpoint.state["round"]) if "round" in checkpoint.state else Round()


def _refreshes(run: Run) -> bool:
    return run.recipe.rollout is not None and run.recipe.rollout.refresh_reference is not None


def check_same(
    identity: Mapping[str, Any], recipe: Mapping[str, Any], state: Mapping[str, Any], free: tuple[str, ...]
) -> None:
    """Refuses to go on with what another run wrote.

    Args:
        identity: hashes that must be as the checkpoint's.
        recipe: as plain dictionaries.
        state: of the checkpoint, with its "identity" and "recipe".
        free: beginnings of dotted keys that may differ.
    Raises:
        ValueError: names what differs.
    """
    for name, value in identity.items():
        if state["identity"].get(name) != value:
            raise ValueError(
                f"--resume: the {name} changed since the checkpoint was written; start a new output folder"
            )
    before, now = flatten(state["recipe"]), flatten(recipe)
    changed = [
        key
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(free)
    ]
    if changed:
        key = changed[0]
        raise ValueError(
            f"--resume: {key} was {before.get(key)!r} and is now {now.get(key)!r} ({len(changed)} keys differ); "
            "resume with the recipe it was started with, or start a new output folder"
        )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as {"section.key": value}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def random_states(accelerator: Accelerator) -> tuple[dict[str, Tensor], list[Any]]:
    """(tensors named "rank.kind", Python's and numpy's states by rank) of all processes, each of which calls this."""
    states = gather_object([_random_state(accelerator.device)])
    tensors = {f"{rank}.{name}": t for rank, state in enumerate(states) for name, t in state[0].items()}
    return tensors, [state[1] for state in states]


def _random_state(device: torch.device) -> tuple[dict[str, Tensor], Any]:
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    return tensors, {"numpy": [kind, np.asarray(keys).tolist(), *rest], "python": [version, list(numbers), gauss]}


def restore_random(accelerator: Accelerator, checkpoint: Checkpoint) -> None:
    """Puts back what `random_states` took."""
    rank = accelerator.process_index
    if rank >= len(checkpoint.state["python_random"]):
        return  # more processes than before: draws and order do not depend on these states, only dropout does
    tensors, other = checkpoint.tensors["random"], checkpoint.state["python_random"][rank]
    torch.set_rng_state(tensors[f"{rank}.torch"])
    if f"{rank}.cuda" in tensors and accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"{rank}.cuda"], accelerator.device)
    kind, keys, *rest = other["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = other["python"]
    random.setstate((version, tuple(numbers), gauss))
