"""Rewards of what a diffusion model predicts while it samples: they take a timestep too."""

from __future__ import annotations

from rewards.reward_entry import MODEL_OPTIONS, RewardEntry

TIMED = {
    "step_aware": RewardEntry(
        target="rewards.step_aware:StepAware",
        title="PickScore for predictions of the clean image at a timestep, SPO's step-aware preference model",
        takes=("image", "response"),
        range="100 times a cosine, as PickScore's; compare images of the same prompt and timestep only",
        preprocessing="pictures: shortest side to 224 (bicubic, PIL), centre crop; batches of pixels in [-1, 1]: the "
        "same without antialiasing, cut off at the ends; CLIP's mean and deviation; 77 tokens of text",
        weights="SPO-Diffusion-Models/Step-Aware_Preference_Models/sd-v1-5_step-aware_preference_model.bin",
        licence="MIT",
        paper="Liang et al., Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step "
        "Preference Optimization, arXiv 2406.04314",
        options={
            **MODEL_OPTIONS,
            "weights": "a folder that training wrote, SPO's state dict (a file, or OWNER/NAME/FILE on the hub), or a "
            "plain CLIP, which then scores as itself at every timestep",
            "timestep": "at which candidates are scored that come without one; 0 is a finished image. Default: 0",
            "config": "hub name or folder of the CLIP whose config a state dict has. Default: PickScore's",
            "sha256": "what a state dict's file must hash to",
        },
        unverified="scores of the published weights, whose parameters' names were read off SPO's code; their licence",
    ),
}
