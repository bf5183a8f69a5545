"""The recipe's `evaluation.validation`: samples while training, scored, and the alarms on them. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from mmpo.recipe_section import Fraction, Number, PathText, Positive, _Section
from mmpo.rollout_recipe import Reward


class Alarms(_Section):
    """Signs that a reward is gamed, each against step 0; thresholds are engineering choices, null turns one off."""

    saturation_rise: Fraction | None = Field(0.15, description="of the images' mean HSV saturation, from 0 to 1")
    clipped_rise: Fraction | None = Field(0.15, description="of the share of channel values at the ends of the range")
    sharpness_factor: Number | None = Field(2.0, gt=1, description="sharper or blurrier than so many times")
    diversity_fall: Fraction | None = Field(
        0.5, description="share that is lost of the distance between samples of one prompt, or of different ones"
    )
    reward_fall: Number | None = Field(
        0.2,
        ge=0,
        description="of a reward that is not trained on while a trained one rises, in standard deviations of its "
        "scores at step 0",
    )
    evaluations: Positive = Field(2, description="so many running before an alarm speaks; guard.action says what then")


class Validation(_Section):
    """Samples of the policy while training, as evaluation.sampling says, scored and watched for a gamed reward."""

    prompts: PathText = Field(description="shapes/tune, or a text file with a prompt a line; the same every time")
    limit: Positive = Field(16, description="the first so many prompts; alarms need ten")
    samples: Positive = Field(2, description="images per prompt, their noise the same every time")
    rewards: list[Reward] = Field(
        [], description="name one that is not trained on; those of the rollout are scored without being named"
    )
    every: Positive | None = Field(None, description="steps; default: evaluation.every")
    alarms: Alarms = Alarms()
