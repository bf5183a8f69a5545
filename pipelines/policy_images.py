"""Images of the policy as it is while training, without its text encoders: prompts are encoded once, at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from PIL import Image
from torch import nn

from mmpo.models.families import Family
from mmpo.recipe import Sampling
from pipelines.generate import Job, decode_latents, noise_seed

ENCODED_AT_ONCE = 16


class PolicyImages:
    """Samples some prompts with a denoiser that is being trained; an image depends on weights, prompt, number, seed.

    Args:
        pipeline: of the checkpoint, on the device where it will sample. Its text encoders are used here, once; its VAE
            is kept in main memory and visits the device to decode.
        family: of the checkpoint.
        texts: distinct prompts.
        sampling: steps, guidance, size.
        seed: of the noise.
        autocast: the precision that the policy samples in.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        texts: Sequence[str],
        sampling: Sampling,
        seed: int,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._family, self._sampling, self._seed, self._autocast = family, sampling, seed, autocast
        self._device = pipeline.device
        wanted = ["", *dict.fromkeys(texts)]
        parts = [
            family.encode_prompts(pipeline, wanted[at : at + ENCODED_AT_ONCE])
            for at in range(0, len(wanted), ENCODED_AT_ONCE)
        ]
        encoded = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self._rows = {
            text: {name: value[at : at + 1] for name, value in encoded.items()} for at, text in enumerate(wanted)
        }
        self._vae, self._processor = pipeline.vae, pipeline.image_processor
        self._pipeline = type(pipeline)(**pipeline.components, **family.pipeline_options)
        gone = [name for name in pipeline.components if name.startswith(("text_encoder", "tokenizer", "vae"))]
        self._pipeline.register_modules(**dict.fromkeys(gone))  # after it took the sizes that it needs from them
        self._pipeline.set_progress_bar_config(disable=True)

    @contextmanager
    def drawing(self, module: nn.Module) -> Iterator[None]:
        """Around `draw`: the VAE on the device, the module in evaluation mode, the random state as it was after it."""
        training = module.training
        module.eval()
        try:
            self._vae.to(self._device)
            with torch.no_grad(), torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                yield
        finally:
            module.train(training)
            self._vae.to("cpu")

    def draw(self, module: nn.Module, jobs: Sequence[Job]) -> list[Image.Image]:
        """The jobs in one batch.

        Args:
            module: the unwrapped policy.
            jobs: of prompts that were given at the start.
        """
        sampling = self._sampling
        rows = [self._rows[job.prompt.text] for job in jobs]
        conditions = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        self._pipeline.register_modules(**{self._family.denoiser: module})
        with self._autocast():
            latents = self._pipeline(
                **self._family.sampling_inputs(conditions, self._rows[""]),
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                height=sampling.height,
                width=sampling.width,
                generator=[torch.Generator().manual_seed(noise_seed(job, self._seed)) for job in jobs],
                output_type="latent",
            ).images
        return decode_latents(self._vae, self._processor, latents)
