"""Rewards without weights."""

from __future__ import annotations

from rewards.reward_entry import RewardEntry

PLAIN = {
    "random": RewardEntry(
        target="rewards.random_score:RandomScore",
        title="random labels, the control that shows how much of a result comes from the labels",
        range="uniform in [0, 1)",
        preprocessing="none",
        options={"seed": "another seed gives other labels. Default: 0"},
    ),
    "shapes": RewardEntry(
        target="rewards.shapes_verifier:ShapesVerifier",
        title="the built-in world's verifier: colour, shape, count and order, read back from pixels",
        range="1 right or 0 wrong; the measure soft: graded in [0, 1]",
        preprocessing="none; 32 x 32 pictures, prompts of the grammar",
        options={"measure": "correct, soft, mirrored, count, objects or relation. Default: correct"},
    ),
}
