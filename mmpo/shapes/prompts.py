"""The world's prompts, split into train, tune and test. Imports no torch."""

from __future__ import annotations

from mmpo.records import SPLITS, Prompt
from mmpo.shapes.grammar import Scene, all_scenes, captions, seedless_hash


def split_of(scene: Scene) -> str:
    """The side a scene and all its captions are on: about 70 % train, 10 % tune, 20 % test, by a fixed hash."""
    percent = seedless_hash(scene.key, "split") % 100
    return "train" if percent < 70 else "tune" if percent < 80 else "test"


def scenes(split: str) -> list[Scene]:
    """The scenes of one split, in a fixed shuffled order, so that any prefix is representative."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; use one of {', '.join(SPLITS)}")
    chosen = [scene for scene in all_scenes() if split_of(scene) == split]
    return sorted(chosen, key=lambda scene: seedless_hash(scene.key, "order"))


def prompts(split: str, paraphrases: bool = False, limit: int | None = None) -> list[Prompt]:
    """Prompts of one split in a fixed shuffled order.

    Args:
        split: "train", "tune" or "test".
        paraphrases: all four captions of each scene; otherwise the canonical one.
        limit: at most this many.

    Returns:
        Prompts whose `key` is the scene, so paraphrases share a split side and a cluster.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"prompts: limit is {limit}; give a number >= 0, or None for all")
    found = [
        Prompt(text=text, key=scene.key, split=split)
        for scene in scenes(split)
        for text in captions(scene)[: None if paraphrases else 1]
    ]
    if paraphrases:
        found.sort(key=lambda prompt: seedless_hash(prompt.text, "order"))
    return found[:limit]
