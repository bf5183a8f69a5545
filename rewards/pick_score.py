"""PickScore: which image of a prompt people prefer."""

from __future__ import annotations

from functools import partial

from rewards.clip_files import load_clip
from rewards.cosine_reward import CosineReward
from rewards.views import ShortestSideCrop
from rewards.weights_hash import identity_of


def pick_score(
    weights: str = "yuvalkirstain/PickScore_v1",
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int = 32,
) -> CosineReward:
    """exp(logit_scale) · cos(image, text) of a CLIP-H trained on human choices.

    Args:
        weights: hub name or folder of a transformers CLIP.
        revision: on the hub.
        device, dtype: of the model.
        batch_size: rows at once.
    References:
        Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, arXiv 2305.01569.
    """
    clip = load_clip(weights, revision=revision, device=device, dtype=dtype)
    view = ShortestSideCrop(clip.size)
    identity = partial(identity_of, weights, revision, dtype, view)
    return CosineReward("pickscore", clip, view, scale=clip.scale, batch_size=batch_size, identity=identity)
