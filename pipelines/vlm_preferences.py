"""Which answer a vision-language model itself finds likelier, on pairs that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mmpo.answer_batch import TokenLogps
from mmpo.data.answer_groups import AnswerRows
from pipelines.build_vlm import tried_adapter
from pipelines.vlm_intervals import Measure, Tally, Unit, mean


class RowLogps(NamedTuple):
    """Log-likelihoods of a row's two sides: of the chosen and the rejected answer, or of the chosen one under the row's
    and under the rejected images where only those differ.

    Args:
        chosen, rejected: summed over the answer's tokens.
        chosen_tokens, rejected_tokens: how many they are.
    """

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int


@torch.no_grad()
def row_logps(model: Any, rows: AnswerRows, *, size: int) -> list[RowLogps]:
    """Of all rows, in order.

    Args:
        model: in evaluation mode, on its device.
        size: rows of a forward.
    """
    if not len(rows):
        return []
    adapter = tried_adapter(model, rows, range(min(2, len(rows))), lambda text: None)  # training said what is left out
    found: list[RowLogps] = []
    for start in range(0, len(rows), size):
        count = min(size, len(rows) - start)
        scores = adapter.logps(model, rows.answers(range(start, start + count)))
        chosen, rejected = _column(scores["chosen"], count), [(float("nan"), 0)] * count
        for name in ("visual", "rejected"):  # an answer's own opponent is the rejected answer where there is one
            if name in scores:
                rejected = [
                    new if new[1] else old for new, old in zip(_column(scores[name], count), rejected, strict=True)
                ]
        found += [RowLogps(one[0], two[0], one[1], two[1]) for one, two in zip(chosen, rejected, strict=True)]
    return found


def _column(scores: TokenLogps, count: int) -> list[tuple[float, int]]:
    """(sum, tokens) per row of the batch; (nan, 0) for rows without this branch."""
    column = [(float("nan"), 0)] * count
    for row, total, length in zip(
        scores.rows.tolist(), scores.logps.double().sum(-1).tolist(), scores.lengths.tolist(), strict=True
    ):  # not `sums`: what tokens weigh in training is no part of how likely they are
        column[row] = (total, int(length))
    return column


def preference_tally(rows: Sequence[RowLogps], clusters: Sequence[str]) -> Tally:
    """The counts behind the measures of one model.

    `preferred`: share of rows whose chosen side is likelier than the rejected one; `preferred_per_token`: the same of
    the mean over tokens, which does not favour the shorter; `chosen_logp`, `rejected_logp`: mean log-likelihood of a
    token. Equal sides count a half.

    Args:
        clusters: per row its question, which intervals are over.
    """
    units = [
        Unit(
            cluster,
            {
                "rows": 1,
                "preferred": _wins(row.chosen, row.rejected),
                "by_token": _wins(row.chosen / row.chosen_tokens, row.rejected / row.rejected_tokens),
                "chosen": row.chosen,
                "chosen_tokens": row.chosen_tokens,
                "rejected": row.rejected,
                "rejected_tokens": row.rejected_tokens,
            },
        )
        for row, cluster in zip(rows, clusters, strict=True)
        if row.chosen_tokens and row.rejected_tokens
    ]
    return Tally(
        units,
        {
            "preferred": Measure(mean("preferred", "rows"), ""),
            "preferred_per_token": Measure(mean("by_token", "rows"), ""),
            "chosen_logp": Measure(mean("chosen", "chosen_tokens"), ""),
            "rejected_logp": Measure(mean("rejected", "rejected_tokens"), "", None),
        },
    )


def _wins(chosen: float, rejected: float) -> float:
    return 0.5 if chosen == rejected else float(chosen > rejected)
