"""Several rewards as one."""

from __future__ import annotations

from rewards.reward_entry import RewardEntry

ENSEMBLES = {
    "ensemble": RewardEntry(
        target="rewards.ensemble:Ensemble",
        title="several rewards as one: z-scores with saved statistics, or wins among the candidates of a prompt",
        takes=("image", "response"),
        range="zscore: about −3 to 3; win_rate: 0 to 1; bradley_terry: log-strengths around 0; pareto: 0 for the best "
        "layer, then −1, −2, ...; all but zscore compare the candidates of one prompt in one call",
        preprocessing="each member's own; equal ones are computed once",
        licence="its members'",
        paper="win_rate: Karthik et al., Scalable Ranked Preference Optimization for Text-to-Image Generation, "
        "arXiv 2410.18013",
        options={
            "members": "two or more: names, or {name: NAME, options: {...}, as: OTHER}",
            "rule": "zscore, win_rate (or borda), bradley_terry or pareto. Default: zscore",
            "weights": "one number above 0 a member; not for pareto. Default: alike",
            "statistics": "for zscore: the file of `mmpo data pair DATASET --labels DIR --write-statistics FILE`",
            "batch_size": "rows at once. Default: the smallest of the members'",
        },
    ),
}
