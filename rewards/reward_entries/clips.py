"""Rewards that are a CLIP: cosine of an image's and a text's embedding, or a head on the image's."""

from __future__ import annotations

from rewards.reward_entry import MODEL_OPTIONS, RewardEntry

_CROP = (
    "shortest side to the model's size, 224 (bicubic, PIL), centre crop, CLIP's mean and deviation; 77 tokens of text"
)
_ARCHITECTURE = "of a file: open_clip's name of it, or its config (embed_dim, vision_cfg, text_cfg, quick_gelu)"
_SHA256 = "of the file, checked where given"
_HPS_OPTIONS = {
    **MODEL_OPTIONS,
    "sha256": _SHA256 + "; the published files' hashes are not known here",
    "architecture": _ARCHITECTURE + ". Default: ViT-H-14",
    "antialias": "false as in numbers published with torchvision before 0.17. Default: true",
    "fast": "true: resize 8-bit pixels, several times faster, off by under half a step of 255. Default: false",
}


def _hps(version: str, file: str, range: str) -> RewardEntry:
    return RewardEntry(
        target=f"rewards.hps_v2:hps_v2{version}",
        title="human preference for images of one prompt, a CLIP-H trained on HPDv2",
        takes=("image", "response"),
        range=range + "; often printed times 100; 2.0 and 2.1 do not compare; compare images of the same prompt only",
        preprocessing="longest side to 224 in floating point (bicubic, antialiased), black to a square, CLIP's mean "
        "and deviation; 77 tokens of text by open_clip's tokenizer",
        weights=f"xswu/HPSv2/{file}",
        licence="Apache-2.0",
        paper="Wu et al., Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of "
        "Text-to-Image Synthesis, arXiv 2306.09341",
        options=_HPS_OPTIONS,
        unverified="scores of the published weights, and their hashes",
    )


CLIP = {
    "clip": RewardEntry(
        target="rewards.clip_score:clip_score",
        title="how well image and text fit, by any CLIP",
        takes=("image", "response"),
        range="a cosine, mostly 0.2 to 0.35; x100: exp(logit_scale) times that; clipscore: 2.5 max(cosine, 0)",
        preprocessing=_CROP,
        weights="openai/clip-vit-large-patch14",
        licence="MIT",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv "
        "2103.00020; clipscore: Hessel et al., CLIPScore, arXiv 2104.08718",
        options={
            **MODEL_OPTIONS,
            "weights": "another hub name or folder; a file with open_clip's state dict; for backend open_clip a tag of "
            "open_clip or a file",
            "scale": "cos; x100: exp(logit_scale) times the cosine, the checkpoint's own; clipscore. Default: cos",
            "backend": "transformers, or open_clip, which runs open_clip's own model. Default: transformers",
            "architecture": _ARCHITECTURE + "; for backend open_clip its name, local-dir:FOLDER or hf-hub:OWNER/NAME",
            "sha256": _SHA256,
        },
        unverified="scores of the published weights",
    ),
    "hpsv2": _hps("", "HPS_v2_compressed.pt", "a cosine, averages of models 0.236 to 0.279"),
    "hpsv2.1": _hps("_1", "HPS_v2.1_compressed.pt", "a cosine, averages of models 0.145 to 0.313"),
    "pickscore": RewardEntry(
        target="rewards.pick_score:pick_score",
        title="human preference for images of one prompt, a CLIP-H trained on Pick-a-Pic",
        takes=("image", "response"),
        range="100 times a cosine, mostly 17 to 24; sigmoid(difference) is the probability of being preferred; "
        "compare images of the same prompt only",
        preprocessing=_CROP,
        weights="yuvalkirstain/PickScore_v1",
        licence="MIT",
        paper="Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, "
        "arXiv 2305.01569",
        options=MODEL_OPTIONS,
        unverified="scores of the published weights",
    ),
}
