"""HPSv2 and HPSv2.1: which image people prefer, a CLIP-H trained on human choices."""

from __future__ import annotations

from functools import partial

from rewards.clip_files import Architecture, load_clip
from rewards.cosine_reward import CosineReward
from rewards.views import LongestSidePad
from rewards.weight_places import is_file
from rewards.weights_hash import identity_of


def hps_score(
    name: str,
    *,
    weights: str,
    sha256: str | None = None,
    architecture: Architecture = None,
    antialias: bool = True,
    fast: bool = False,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int = 32,
) -> CosineReward:
    """The cosine of a CLIP-H's embeddings of image and prompt, without its logit scale.

    Args:
        name: in the table.
        weights: state dict of open_clip's CLIP, also below the key "state_dict": OWNER/NAME/FILE on the hub or a file;
            or hub name or folder of a transformers CLIP.
        sha256: of the file, checked where given; the published files' hashes are not known here.
        architecture: of the file: open_clip's name, or its config; default: ViT-H-14.
        antialias: false as in numbers published with torchvision before 0.17.
        fast: resize 8-bit pixels, several times faster and a little off.
        revision: on the hub.
        device, dtype: of the model.
        batch_size: rows at once.
    Raises:
        ValueError: weights that cannot be had.
    References:
        Wu et al., Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of Text-to-Image
        Synthesis, arXiv 2306.09341.
    """
    built = architecture or ("ViT-H-14" if is_file(weights) else None)
    clip = load_clip(
        weights,
        revision=revision,
        device=device,
        dtype=dtype,
        architecture=built,
        sha256=sha256,
        simple_tokenizer=True,
    )
    view = LongestSidePad(clip.size, antialias, fast)
    identity = partial(identity_of, weights, revision, dtype, view, architecture=built)
    return CosineReward(name, clip, view, batch_size=batch_size, identity=identity)


hps_v2 = partial(hps_score, "hpsv2", weights="xswu/HPSv2/HPS_v2_compressed.pt")
hps_v2_1 = partial(hps_score, "hpsv2.1", weights="xswu/HPSv2/HPS_v2.1_compressed.pt")
