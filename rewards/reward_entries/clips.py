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
    "weights": "a state dict of open_clip's CLIP: a file, or OWNER/NAME/FILE on the hub; or a transformers CLIP: hub "
    "name or folder",
    "sha256": _SHA256 + "; the published files' hashes are not known here",
    "architecture": _ARCHITECTURE + ". Default: ViT-H-14",
    "antialias": "false as in numbers published with torchvision before 0.17. Default: true",
    "fast": "true: resize 8-bit pixels, several times faster, off by under half a step of 255 on average. Default: "
    "false",
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
    "aesthetic": RewardEntry(
        target="rewards.aesthetic_score:AestheticScore",
        title="how much people like an image, whatever its prompt: LAION's linear head on CLIP-L/14",
        range="1 to 10, generated images mostly 4.5 to 7",
        preprocessing="shortest side to 224 (bicubic, PIL), centre crop (torchvision's rounding), CLIP's mean and "
        "deviation; no text",
        weights="openai/clip-vit-large-patch14; trl-lib/ddpo-aesthetic-predictor",
        licence="Apache-2.0",
        paper="Schuhmann et al., LAION-5B: An open large-scale dataset for training next generation image-text models, "
        "arXiv 2210.08402",
        options={
            **MODEL_OPTIONS,
            "weights": "the CLIP that the head was trained on, another place of it. Default: openai/"
            "clip-vit-large-patch14",
            "head": "OWNER/NAME/FILE on the hub, or sac+logos+ava1-l14-linearMSE.pth of github.com/christophschuhmann/"
            "improved-aesthetic-predictor as a file. Default: trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth, a "
            "copy of it",
            "sha256": "of the head, checked where given; the published one is not known here",
        },
        unverified="scores of the published head",
    ),
    "lambda_harmonic": RewardEntry(
        target="rewards.lambda_harmonic:LambdaHarmonic",
        title="subject-driven generation: harmonic mean of likeness to the subject's images and to the prompt",
        range="[0, 1]; parts i2i and t2i are the cosines, i2i the mean over the subject's images",
        preprocessing=_CROP,
        weights="openai/clip-vit-large-patch14",
        licence="MIT",
        paper="Miao et al., Subject-driven Text-to-Image Generation via Preference-based Reinforcement Learning, arXiv "
        "2407.12164",
        options={
            **MODEL_OPTIONS,
            "references": "folder of the subject's images. Required",
            "lam": "weight of the subject, from 0 to 1. Default: 0.3",
        },
        unverified="values of the paper, which takes both likenesses from ALIGN (kakaobrain/align-base) and not a CLIP",
    ),
}
