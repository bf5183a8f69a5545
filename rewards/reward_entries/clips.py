"""Rewards that are a CLIP: cosine of an image's and a text's embedding, or a head on the image's."""

from __future__ import annotations

from rewards.reward_entry import MODEL_OPTIONS, RewardEntry

CLIP = {
    "pickscore": RewardEntry(
        target="rewards.pick_score:PickScore",
        title="human preference for images of one prompt, a CLIP-H trained on Pick-a-Pic",
        takes=("image", "response"),
        range="100 times a cosine, mostly 17 to 24; sigmoid(difference) is the probability of being preferred; "
        "compare images of the same prompt only",
        preprocessing="shortest side to 224 (bicubic, PIL), centre crop, CLIP's mean and deviation; 77 tokens of text",
        weights="yuvalkirstain/PickScore_v1",
        licence="MIT",
        paper="Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, "
        "arXiv 2305.01569",
        options=MODEL_OPTIONS,
        unverified="scores of the published weights",
    ),
}
