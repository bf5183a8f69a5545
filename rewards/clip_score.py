"""CLIP score: how well an image and a text fit, by any CLIP."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from rewards.clip_files import Architecture, load_clip, load_open_clip
from rewards.cosine_reward import CosineReward
from rewards.views import ShortestSideCrop
from rewards.weights_hash import identity_of

Scale = Literal["cos", "x100", "clipscore"]
Backend = Literal["transformers", "open_clip"]


def clip_score(
    weights: str | None = None,
    scale: Scale = "cos",
    backend: Backend = "transformers",
    architecture: Architecture = None,
    sha256: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int = 32,
) -> CosineReward:
    """The cosine of a CLIP's embeddings of image and text, on one of three scales.

    Args:
        weights: backend transformers: hub name or folder of a transformers CLIP, or a state dict of open_clip's CLIP (a
            file, or OWNER/NAME/FILE on the hub), which is run as a transformers CLIP; backend open_clip: a tag of
            open_clip for its architecture, or a file.
        scale: "cos" the cosine; "x100" exp(logit_scale) times it, with the checkpoint's own logit_scale, which
            training stops at ln 100 and published CLIPs have reached; "clipscore" 2.5 · max(cosine, 0).
        backend: who runs the model.
        architecture: open_clip's name, such as ViT-H-14 or ViT-L-14-quickgelu, or its config as a dictionary; for a
            file, and for backend open_clip, where it may also be local-dir:FOLDER or hf-hub:OWNER/NAME.
        sha256: of a file, checked where given.
        revision: on the hub.
        device, dtype: of the model.
        batch_size: rows at once.
    Raises:
        ValueError: unknown choices, or weights that cannot be had.
    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
        Hessel et al., CLIPScore: A Reference-free Evaluation Metric for Image Captioning, arXiv 2104.08718, section 3;
        there the text is "A photo depicts " and the caption, here it is the text as it is.
    """
    for name, value, valid in (("scale", scale, get_args(Scale)), ("backend", backend, get_args(Backend))):
        if value not in valid:
            raise ValueError(f"{name}: expected one of {', '.join(valid)}, got {value!r}")
    if backend == "open_clip":
        if revision is not None or sha256 is not None:
            raise ValueError("revision, sha256: backend open_clip takes neither; its tags name their weights")
        clip = load_open_clip(architecture, weights, device=device, dtype=dtype)
    else:
        weights = weights or "openai/clip-vit-large-patch14"
        clip = load_clip(
            weights, revision=revision, device=device, dtype=dtype, architecture=architecture, sha256=sha256
        )
    ours = backend == "transformers" and architecture is None
    view = ShortestSideCrop(clip.size, odd="floor" if ours else "round")
    source = weights or str(architecture).partition(":")[2]  # of local-dir:FOLDER, hf-hub:OWNER/NAME
    identity = partial(
        identity_of, source, revision, dtype, view, scale=scale, backend=backend, architecture=architecture
    )
    factor = {"cos": 1.0, "x100": clip.scale, "clipscore": 2.5}[scale]
    least = 0.0 if scale == "clipscore" else -1.0
    return CosineReward("clip", clip, view, scale=factor, least=least, batch_size=batch_size, identity=identity)
