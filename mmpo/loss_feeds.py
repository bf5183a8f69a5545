"""Where a training run gets what a loss needs beside log-likelihoods, by the name of the loss's argument. No torch.

A loss whose every further argument stands here can be named by a recipe; `mmpo.training.feeds` makes the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmpo.data.extra_columns import ExtraColumn
from mmpo.loss_entry import LossEntry

COMPUTED: dict[str, str] = {
    "desirable": "the chosen candidates are, the rejected are not",
    "z0": "the mean log-ratio over one forward of all processes, not below 0",
    "mismatched_z0": "the same of candidates under other groups' prompts: one more forward of both models",
    "chosen_drift": "from the predictions of the policy and the reference",
    "online": "the candidates of a rollout, which are the policy's own samples",
    "online_reference": "the same under the reference",
    "gold_nll": "the best of three or more ranked candidates; the second is then the chosen, the last the rejected",
}
"""What the loop computes."""

OF_ROLLOUTS = ("online", "online_reference")
"""Those of them that a recipe has with a rollout alone."""

COLUMNS: dict[str, ExtraColumn] = {
    "margins": ExtraColumn("numbers"),
    "chosen_win_rate": ExtraColumn(low=0.0, high=1.0),
    "rejected_win_rate": ExtraColumn(low=0.0, high=1.0),
    "chosen_score": ExtraColumn(),
    "rejected_score": ExtraColumn(),
    "preference": ExtraColumn(low=0.0, high=1.0),
    "photo_wins": ExtraColumn("flag"),
}
"""What stands in a column of the data, of that name or renamed by `data.columns`."""

GIVEN = ("weights",)
"""What the recipe gives as a list of numbers beside the loss's options."""

ABSENT: dict[str, str] = {
    "previous_chosen": "the policy of an earlier round beside the reference, and recipes have one reference so far",
    "previous_rejected": "the policy of an earlier round beside the reference",
    "reference_sample": "a sample that the reference made during training, and recipes read stored candidates so far",
}
"""Why a run cannot give the others."""


def untrainable(entry: LossEntry) -> str:
    """Why a recipe cannot train with a loss; empty where it can."""
    if entry.not_for_surrogates:
        return f"cannot be fed by the denoising and flow log-likelihoods: {entry.not_for_surrogates}"
    if entry.family == "token":
        return "takes log-likelihoods of tokens, which the denoising and flow adapters do not give"
    missing = [name for name in feeds_of(entry) if feeds_of(entry)[name] not in (*COMPUTED, *COLUMNS, *GIVEN)]
    if missing:
        why = ABSENT.get(missing[0])
        return f"needs {', '.join(missing)}" + (f": {why}" if why else ", which neither data nor adapters give yet")
    return ""


def feeds_of(entry: LossEntry) -> dict[str, str]:
    """By the name of each further argument, which feed fills it: that of the same name unless its row says so."""
    return {name: entry.feeds.get(name, name) for name in entry.extra}


def columns_of(entry: LossEntry, given: Mapping[str, Sequence[float]]) -> dict[str, ExtraColumn]:
    """The columns that the data must have for a loss; `margins` one number for each of the recipe's further weights."""
    counts = {"margins": len(given["weights"]) - 1} if "weights" in given else {}
    return {name: replace(COLUMNS[name], count=counts.get(name)) for name in entry.extra if name in COLUMNS}


def given_fault(name: str, value: object) -> str:
    """What is wrong with a list that the recipe gives, as "expected ..., got ..."; empty where nothing is."""
    expected = "a list of at least two numbers of at least 0 with sum 1, the first above 0, such as [0.7, 0.3]"
    if value is None:
        return f"it is missing; give {expected}"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        return f"expected {expected}, got {value!r}"
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and one >= 0 for one in value):
        return f"expected {expected}, got {value!r}"
    whole = math.isclose(sum(value), 1, abs_tol=1e-3) and value[0] > 0
    return "" if whole else f"expected {expected}, got {value!r} with sum {sum(value):g}"
