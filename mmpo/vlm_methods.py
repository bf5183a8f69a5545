"""Methods for vision-language models as sums of losses over named branches. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpo.branches import BRANCHES
from mmpo.loss_entry import BETA, LossEntry, option, options
from mmpo.loss_feeds import COLUMNS
from mmpo.loss_table import LOSS_TABLE
from mmpo.suggest import one_of

_SEQUENCE_KLS = {
    "chosen_kl": "[B] Σ_t KL(reference || policy) over the chosen answer",
    "rejected_kl": "[B] Σ_t KL(reference || policy) over the rejected answer",
}
VISUAL_TABLE: dict[str, LossEntry] = {
    "anchor": LossEntry(
        "mDPO's anchor: the chosen answer stays as likely as it was",
        "arXiv 2406.11839",
        formula="-log sigmoid(beta * δ_chosen - delta)",
        options=options(beta=BETA, delta=option(0.0, above=None)),
    ),
    "v_dpo": LossEntry(
        "V-DPO, guided by what the policy says without the image",
        "arXiv 2411.02712",
        formula="-log sigmoid(beta * Δ), log π in place of g * log π - (g - 1) * detach(log π without the image)",
        options=options(beta=BETA, guidance=option(1.5)),
        extra={
            "prior_chosen": "[B] log-likelihood of the chosen answer under an image of zeros",
            "prior_rejected": "[B] of the rejected answer",
        },
    ),
    "chip": LossEntry(
        "CHiP as released: one sigmoid of three margins",
        "arXiv 2501.16629",
        formula="-log sigmoid(beta * (Δ + δ_chosen - δ_visual - token_weight * (KL_rejected - detach(KL_chosen))))",
        options=options(beta=BETA, token_weight=option(0.1, at_least=0.0)),
        extra={
            "visual": "[B] log-likelihood of the chosen answer under the rejected image",
            "reference_visual": "[B] the same of the reference",
            **_SEQUENCE_KLS,
        },
    ),
}
VLM_TABLE: Mapping[str, LossEntry] = {**LOSS_TABLE, **VISUAL_TABLE}

FEEDS_OF_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "chosen_kl": (),
    "rejected_kl": (),
    "chosen_mask": (),
    "rejected_mask": (),
    "visual": ("visual",),
    "reference_visual": ("visual",),
    "desirable": (),
    "z0": (),
    "chosen_reward_weight": (),
    "rejected_reward_weight": (),
    "chosen_kl_weight": (),
    "rejected_kl_weight": (),
    "prior_chosen": ("prior",),
    "prior_rejected": ("prior_rejected",),
}
"""What the step computes for losses that need more than two log-likelihoods, and the further branches that it takes."""

_TEXT: dict[str, Any] = {"loss": "dpo", "chosen": "chosen", "rejected": "rejected"}
_IMAGE: dict[str, Any] = {"loss": "dpo", "chosen": "chosen", "rejected": "visual"}
METHODS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "dpo": (_TEXT,),
    "rdpo": (_TEXT, _IMAGE),
    "rdpo_released": (
        {**_TEXT, "rejected": "rejected.top_non_label"},
        {**_IMAGE, "rejected": "visual.top_non_label"},
    ),
    "mdpo": (_TEXT, _IMAGE, {"loss": "anchor"}),
    "v_dpo": ({"loss": "v_dpo"},),
    "chip": ({"loss": "chip"},),
    "povid": ({**_TEXT, "weight": 0.5}, {**_IMAGE, "rejected": "chosen.own:visual", "weight": 0.5}),
}
"""Names that stand for several terms; β and other options beside the name go to every term that has them."""


def untrainable_on_answers(loss: str) -> str:
    """Why answers of a VLM cannot be trained with a loss; empty where they can."""
    entry = VLM_TABLE[loss]
    pair_of_tokens = entry.family == "token" and "chosen_mask" in entry.extra
    if entry.family not in ("pair", "point") and not pair_of_tokens:
        return f"takes {entry.family}s, and terms over branches take two answers so far"
    missing = [name for name in entry.extra if name not in FEEDS_OF_ANSWERS and name not in COLUMNS]
    return f"needs {', '.join(missing)}, which neither data nor branches give yet" if missing else ""


def split_side(side: str) -> tuple[str, str]:
    """A term's side as (branch, what is read of it): "visual.top_non_label" -> ("visual", "top_non_label").

    Raises:
        ValueError: no such branch, or nothing that can be read of one.
    """
    branch, _, read = side.partition(".")
    if branch not in BRANCHES:
        raise ValueError(f"branch {one_of(branch, BRANCHES)}")
    other = read.removeprefix("own:")
    if read and read != "top_non_label" and (other == read or other not in BRANCHES):
        raise ValueError(f"{side}: after the branch's name top_non_label or own:BRANCH may stand, got {read!r}")
    return branch, read
