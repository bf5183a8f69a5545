"""Sample grids while training: the same prompts and noise every time, so that strips of different steps compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mmpo.data.images import encode
from mmpo.files import write_bytes, write_json
from mmpo.models.families import Family
from mmpo.recipe import Recipe
from mmpo.records import Prompt
from pipelines.generate import Job, decode_latents, noise_seed
from pipelines.prompts import load_prompts

FOLDER = "samples"
ABOUT = "previews.json"
LARGEST = 256


class Previews:
    """Draws the recipe's previews with the policy as it is, without its text encoders.

    Args:
        pipeline: of the checkpoint, on the device where it will sample. Its text encoders are used here, once; its VAE
            is kept in main memory and visits the device to decode.
        family: of the checkpoint.
        texts: N prompts.
        recipe: sampling settings and seed are those of its evaluation section.
        folder: of the run; strips go to its folder `samples`.
        autocast: the precision that the policy samples in.
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
        self._family, self._recipe, self._texts, self._autocast = family, recipe, list(texts), autocast
        self._folder = folder / FOLDER
        self._device = pipeline.device
        encoded = family.encode_prompts(pipeline, ["", *self._texts])
        self._null = {name: value[:1] for name, value in encoded.items()}
        self._conditions = {name: value[1:] for name, value in encoded.items()}
        self._vae, self._processor = pipeline.vae, pipeline.image_processor
        self._pipeline = type(pipeline)(**pipeline.components, **family.pipeline_options)
        parts = [name for name in pipeline.components if name.startswith(("text_encoder", "tokenizer", "vae"))]
        self._pipeline.register_modules(**dict.fromkeys(parts))  # after it took the sizes that it needs from them
        self._pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(self, module: nn.Module, step: int) -> NDArray[np.uint8]:
        """Writes `samples/step-NNNNNN.png`, N cells side by side, and returns it as [H, W, 3].

        Args:
            module: the unwrapped policy; it is in training mode again afterwards where it was before.
            step: optimiser steps done.
        """
        training = module.training
        module.eval()
        try:
            self._vae.to(self._device)
            with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                images = [self._draw(module, index) for index in range(len(self._texts))]
        finally:
            module.train(training)
            self._vae.to("cpu")
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

    def _draw(self, module: nn.Module, index: int) -> Image.Image:
        sampling = self._recipe.evaluation.sampling
        seed = noise_seed(Job(Prompt(self._texts[index]), 0), self._recipe.evaluation.seed)
        self._pipeline.register_modules(**{self._family.denoiser: module})
        with self._autocast():
            latents = self._pipeline(
                **self._family.sampling_inputs(_one(self._conditions, index), self._null),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                height=sampling.height,
                width=sampling.width,
                generator=torch.Generator().manual_seed(seed),
                output_type="latent",
            ).images
        return decode_latents(self._vae, self._processor, latents)[0]


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


def _one(condition: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: value[index : index + 1] for name, value in condition.items()}
