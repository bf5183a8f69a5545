"""Token log-probabilities as plainly as can be: the reference implementation that every fast path must equal.

One forward a branch, its images encoded anew, the logits of all positions, and of those of scored tokens the
log-softmax in float32. It needs the memory of batch × tokens × vocabulary once, in the model's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmpo.adapters.image_features import image_inputs
from mmpo.answer_batch import AnswerBatch, BranchTokens, TokenLogps
from mmpo.models.vlm_parts import bare


def naive_logps(
    model: Any, batch: AnswerBatch, *, asked: Mapping[str, Sequence[str]] | None = None, reference: Any = None
) -> dict[str, TokenLogps]:
    """What `mmpo.adapters.autoregressive.Autoregressive.logps` says, from all logits of all positions.

    Args:
        asked: per branch what else is wanted.
        reference: the frozen model, for divergences.
    """
    asked = asked or {}
    every = {name: _log_softmax(model, batch, branch) for name, branch in batch.branches.items()}
    found = {}
    for name, branch in batch.branches.items():
        with torch.no_grad():
            frozen = None if reference is None else _log_softmax(reference, batch, branch)
        rows = []
        extra: dict[str, list[Tensor]] = {what: [] for what in asked.get(name, ())}
        for n, logp in enumerate(every[name]):  # [T, V] at the positions of one row
            token = branch.ids[n, branch.scored[n]].to(logp.device)
            rows.append(logp.gather(1, token[:, None])[:, 0])
            for what in extra:
                other = every[what[4:]][n] if what.startswith("own:") else frozen[n] if frozen is not None else None
                extra[what].append(_quantity(what, logp, token, other))
        mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
        weights = [branch.weights[n, branch.scored[n]] for n in range(len(rows))]
        found[name] = TokenLogps(
            logps=pad_sequence(rows, batch_first=True),
            mask=mask,
            weights=pad_sequence(weights, batch_first=True).to(mask.device),
            rows=branch.rows.to(mask.device),
            extra={what: pad_sequence(values, batch_first=True) for what, values in extra.items()},
        )
    return found


def _quantity(what: str, logp: Tensor, token: Tensor, other: Tensor | None) -> Tensor:
    """[M] of one row from its log-probabilities [M, V] and another branch's or model's."""
    if what == "top_non_label":
        return logp.scatter(1, token[:, None], float("-inf")).max(-1).values
    if other is None:
        raise ValueError(f"asked: {what} needs the reference")
    if what == "kl":
        return (other.exp() * (other - logp)).sum(-1)
    if what == "reverse_kl":
        return (logp.exp() * (logp - other)).sum(-1)
    return logp.gather(1, other.argmax(-1, keepdim=True))[:, 0]


def _log_softmax(model: Any, batch: AnswerBatch, branch: BranchTokens) -> list[Tensor]:
    """Per row [M, V]: the distribution of each scored token, from one forward."""
    inner = bare(model)
    ids = branch.ids.to(inner.device)
    real = torch.arange(ids.shape[1], device=ids.device) < branch.lengths.to(ids.device)[:, None]
    inputs = image_inputs(inner, batch.images, branch.images)
    if inputs and branch.types is not None:
        inputs[batch.types_name] = branch.types.to(ids.device)
    logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False, **inputs).logits
    scored = branch.scored[:, 1:].to(ids.device)
    rows = [logits[n, :-1][scored[n]] for n in range(len(ids))]
    return [(row if row.dtype == torch.float64 else row.float()).log_softmax(-1) for row in rows]
