"""Sample grids while training: the same prompts and noise every time, so that strips of different steps compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from mmpo.data.images import encode
from mmpo.files import write_bytes, write_json
from mmpo.models.families import Family
from mmpo.recipe import Recipe
from mmpo.records import Prompt
from pipelines.generate import Job
from pipelines.policy_images import PolicyImages
from pipelines.prompts import load_prompts

FOLDER = "samples"
ABOUT = "previews.json"
LARGEST = 256


class Previews:
    """Draws the recipe's previews with the policy as it is, without its text encoders.

    Args:
        pipeline, family, autocast: see `PolicyImages`.
        texts: N prompts.
        recipe: sampling settings and seed are those of its evaluation section.
        folder: of the run; strips go to its folder `samples`.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        texts: Sequence[str],
        recipe: Recipe,
        folder: Path,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._recipe, self._texts, self._folder = recipe, list(texts), folder / FOLDER
        evaluation = recipe.evaluation
        self._images = PolicyImages(pipeline, family, texts, evaluation.sampling, evaluation.seed, autocast)

    def __call__(self, module: nn.Module, step: int) -> NDArray[np.uint8]:
        """Writes `samples/step-NNNNNN.png`, N cells side by side, and returns it as [H, W, 3].

        Args:
            module: the unwrapped policy; it is in training mode again afterwards where it was before.
            step: optimiser steps done.
        """
        with self._images.drawing(module):  # one at a time, which every memory has room for
            images = [self._images.draw(module, [Job(Prompt(text), 0)])[0] for text in self._texts]
        for image in images:
            image.thumbnail((LARGEST, LARGEST))
        strip = np.concatenate([np.asarray(image, dtype=np.uint8) for image in images], axis=1)
        write_bytes(self._folder / f"step-{step:06d}.png", encode(Image.fromarray(strip)))
        evaluation = self._recipe.evaluation
        about = {
            "prompts": self._texts,
            "seed": evaluation.seed,
            "cell": list(images[0].size),
            "sampling": evaluation.sampling.model_dump(),
        }
        write_json(self._folder / ABOUT, about)
        return strip


def preview_texts(recipe: Recipe, held_out: Sequence[str], training: Sequence[str]) -> list[str]:
    """The prompts of the previews: the recipe's, or else distinct ones of the held-out data, then of the training data.

    Raises:
        ValueError: a file of prompts that is not there.
    """
    section = recipe.evaluation.previews
    if section.prompts is None:
        named = list(dict.fromkeys([*held_out, *training]))
    elif isinstance(section.prompts, str):
        named = [prompt.text for prompt in load_prompts(section.prompts)]
    else:
        named = list(section.prompts)
    return named[: section.count]
