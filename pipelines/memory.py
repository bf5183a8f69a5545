"""The memory model: what each phase of a run holds on one device, by part. Arithmetic on counts; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONTEXT = 1.0e9
"""Bytes of the CUDA context, the kernels' workspaces and the allocator's slack: an assumption, not counted."""


@dataclass(frozen=True, slots=True)
class Line:
    """Bytes that grow with a number of images: fixed + each · images."""

    fixed: int = 0
    each: int = 0

    def at(self, images: int) -> int:
        """Bytes for so many images."""
        return self.fixed + self.each * images


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `pipelines.meta_counts` counts of a checkpoint under a recipe.

    Args:
        frozen: the denoiser's parameters that are not trained.
        trained: those that are: a LoRA's, or all.
        reference: parameters of a reference of its own; 0 where the adapters are switched off.
        vae, texts: parameters of the VAE and of all text encoders.
        step: bytes at the peak of forward, loss and backward, without weights, gradients and optimiser; by images.
        sample: of a forward without gradient, by samples (guidance makes two of an image).
        encode, decode: of the VAE's encoder and decoder, by images.
    """

    frozen: int
    trained: int
    reference: int
    vae: int
    texts: int
    step: Line
    sample: Line
    encode: Line
    decode: Line


@dataclass(frozen=True, slots=True)
class Setup:
    """What a recipe makes of the sizes.

    Args:
        images: in one forward with gradient: candidates x pairs of the micro-batch.
        weight_bytes: of a frozen weight and of the text encoders' (quantised ones have less than one byte each).
        master_bytes: of a trained weight, of its gradient, and of a VAE's weight.
        state_bytes: of the optimiser, for each trained weight.
        ema: whether a moving average is kept.
        reference_bytes: of a weight of the reference's own.
        offloaded: whether the reference is in main memory but for its own forward.
        encoded: images in one call of the VAE's encoder.
        previews: whether samples are drawn while training, one at a time.
        sampled: images at once while sampling with the whole pipeline (`mmpo eval`, own samples); 0 is never.
        text_bytes: of a weight of the text encoders.
        drawn: images at once that are sampled while the training's state is there (own samples, validation).
        decoded: of these, in one call of the VAE's decoder.
    """

    images: int
    weight_bytes: float = 2.0
    master_bytes: int = 4
    state_bytes: int = 8
    ema: bool = False
    reference_bytes: float = 4.0
    offloaded: bool = False
    encoded: int = 1
    previews: bool = False
    sampled: int = 0
    text_bytes: float = 2.0
    drawn: int = 0
    decoded: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a phase: `basis` is "counted", or "assumed"."""

    name: str
    bytes: int
    basis: str = "counted"


def phases(sizes: Sizes, setup: Setup) -> Mapping[str, tuple[Part, ...]]:
    """Parts by phase; the run needs the largest phase's sum. Parts of nothing are left out.

    Sums are upper bounds: gradients are counted in full beside the peak of the activations, as they are from the
    second micro-batch of a step on.
    """
    context = Part("context and workspaces", round(CONTEXT), "assumed")
    base = Part("frozen weights", round(sizes.frozen * setup.weight_bytes))
    master = Part("trained weights", sizes.trained * setup.master_bytes)
    reference = Part("reference", round(sizes.reference * setup.reference_bytes))
    gradients = Part("gradients", sizes.trained * setup.master_bytes)
    state = (
        context,
        base,
        master,
        Part("optimiser state", sizes.trained * setup.state_bytes),
        Part("moving average", sizes.trained * setup.master_bytes * setup.ema),
        Part("reference", 0 if setup.offloaded else reference.bytes),
    )
    vae = Part("VAE", sizes.vae * setup.master_bytes)
    texts = Part("text encoders", round(sizes.texts * setup.text_bytes))
    # the LoRA comes after encoding; a model that is trained whole is there in its master weights
    alone = (context, base if sizes.frozen else master, vae, texts)
    found = {
        "encoding the data": (*alone, Part("activations of the VAE", sizes.encode.at(setup.encoded))),
        "training": (*state, gradients, Part("activations", sizes.step.at(setup.images))),
    }
    if setup.offloaded and reference.bytes:
        forward = Part("activations", sizes.sample.at(setup.images))
        found["the reference's forward"] = (*state, gradients, reference, forward)
    if setup.previews:
        drawing = max(sizes.sample.at(2), sizes.decode.at(1))
        found["previews"] = (*state, vae, Part("activations of sampling", drawing))
    if setup.drawn:
        drawing = max(sizes.sample.at(2 * setup.drawn), sizes.decode.at(setup.decoded))
        found["sampling while training"] = (*state, vae, Part("activations of sampling", drawing))
    if setup.sampled:
        drawing = max(sizes.sample.at(2 * setup.sampled), sizes.decode.at(setup.sampled))
        found["sampling"] = (*alone, Part("activations of sampling", drawing))
    return {name: tuple(part for part in parts if part.bytes) for name, parts in found.items()}


def total(parts: tuple[Part, ...]) -> int:
    """Bytes of a phase."""
    return sum(part.bytes for part in parts)


def peak(sizes: Sizes, setup: Setup) -> int:
    """Bytes of the largest phase."""
    return max(total(parts) for parts in phases(sizes, setup).values())
