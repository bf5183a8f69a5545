"""Rewards whose text and image read each other before there is a score."""

from __future__ import annotations

from rewards.reward_entry import MODEL_OPTIONS, RewardEntry

CROSS = {
    "imagereward": RewardEntry(
        target="rewards.image_reward:ImageReward",
        title="human preference for images of one prompt, a BLIP whose text encoder looks at the image",
        range="about a standard normal: 98 % of generated images in [-2, 2]; sigmoid(1.0333 times the difference) is "
        "the probability of being preferred; compare images of the same prompt only",
        preprocessing="shortest side to 224 (bicubic, PIL), centre crop (torchvision's rounding), CLIP's mean and "
        "deviation; 35 BERT tokens of text, the rest is cut and noted",
        weights="THUDM/ImageReward/ImageReward.pt",
        licence="Apache-2.0",
        paper="Xu et al., ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation, "
        "arXiv 2304.05977",
        options={
            **MODEL_OPTIONS,
            "weights": "OWNER/NAME/FILE on the hub, or ImageReward.pt as a file or the folder it is in",
            "sha256": "of the file, checked where given; the published one is not known here. Default: not checked",
            "vocab": "vocab.txt of bert-base-uncased, a folder with it, or a hub name. Default: the vocab.txt beside "
            "the weights, else the hub's bert-base-uncased",
        },
        unverified="scores of the published weights",
    ),
    "mps": RewardEntry(
        target="rewards.mps_score:MpsScore",
        title="human preference under a condition, a CLIP-H whose image tokens read the words that it is about",
        range="100 times a cosine, about 8 to 16; sigmoid(difference) is the probability of being preferred; "
        "compare images of the same prompt only",
        preprocessing="shortest side to 224 (bicubic, PIL), centre crop, CLIP's mean and deviation; 77 tokens of "
        "text, the rest is cut and noted; padded with the end mark, which the model reads, too",
        weights="mps_overall.safetensors",
        licence="code MIT; of the weights not stated",
        paper="Zhang et al., Learning Multi-dimensional Human Preference for Text-to-Image Generation, CVPR 2024, "
        "arXiv 2405.14705",
        options={
            **MODEL_OPTIONS,
            "weights": "what scripts/convert_mps.py makes of the released pickled module, or another state dict under "
            "its names, or OWNER/NAME/FILE on the hub. Default: mps_overall.safetensors in the working folder",
            "sha256": "of the file, checked where given. Default: not checked",
            "condition": "overall, aesthetic, detail, semantic, or a text; the released weights were trained on the "
            "first. Default: overall",
            "threshold": "words less similar to the condition than this share of the most similar are hidden; 0.01 in "
            "the released training code. Default: 0.3, of the released evaluation",
        },
        unverified="scores of the published weights, which the released code runs in float16; whether they know the "
        "conditions other than overall; that their tokenizer pads with the end mark",
    ),
}
