"""HPSv3's network: a Qwen2-VL without its language head, and a small head at one token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rewards.exact_weights import load_exactly
from rewards.weight_files import read_state_dict

Positions = Literal["sequential", "mrope"]
PREFIXES = {
    "model.visual.": "backbone.visual.",
    "model.language_model.": "backbone.language_model.",
    "visual.": "backbone.visual.",  # of transformers before 4.52, as the released file
    "model.": "backbone.language_model.",
    "rm_head.": "head.",
}
LANGUAGE_HEAD = "lm_head.weight"


class HPSv3Model(nn.Module):
    """(μ, log σ) of each row from the last hidden state h at the reward token.

        head(h) = W₃ relu(W₂ relu(W₁ h + b₁) + b₂) + b₃,  hidden → 1024 → 16 → 2, in float32

    Args:
        config: a `Qwen2VLConfig`.
    References:
        Ma et al., HPSv3: Towards Wide-Spectrum Human Preference Score, arXiv 2508.03789.
    """

    def __init__(self, config: Any) -> None:
        from transformers import Qwen2VLModel

        super().__init__()
        self.backbone = Qwen2VLModel(config)
        width = config.text_config.hidden_size
        self.head = nn.Sequential(
            nn.Linear(width, 1024), nn.ReLU(), nn.Identity(), nn.Linear(1024, 16), nn.ReLU(), nn.Linear(16, 2)
        )  # the Identity keeps the numbers that the layers have in the file: theirs is a dropout

    def forward(self, batch: Mapping[str, Tensor], place: Tensor, positions: Positions) -> Tensor:
        """[B, 2] float32.

        Args:
            batch: of the processor, padded on the right.
            place: [B] where the reward token stands.
            positions: "sequential", as the authors' code, which hands the backbone embeddings without the image's
                grid; "mrope" as Qwen2-VL itself.
        """
        inputs = dict(batch)
        if positions == "sequential":
            steps = (inputs["attention_mask"].long().cumsum(-1) - 1).clamp(min=0)
            inputs["position_ids"] = steps.expand(3, *steps.shape)
        hidden = self.backbone(**inputs, use_cache=False).last_hidden_state
        return self.head(hidden[torch.arange(len(place), device=hidden.device), place].float())


def load_hps_v3(file: Path, config: Any, *, device: str, dtype: torch.dtype) -> HPSv3Model:
    """The network with the weights of a file; the backbone in `dtype`, the head in float32.

    Args:
        file: safetensors or a `.pt` of tensors, under the names of old or of new transformers.
        config: of the Qwen2-VL it was trained from; the number of tokens is the file's.
    Raises:
        ValueError: other tensors than HPSv3's.
    """
    from accelerate import init_empty_weights

    state = renamed(read_state_dict(file), file)
    words = state.get("backbone.language_model.embed_tokens.weight")
    if words is None:
        raise ValueError(f"weights {file}: no embeddings of tokens in it; give HPSv3's file")
    config.text_config.vocab_size = words.shape[0]
    with init_empty_weights():
        model = HPSv3Model(config)
    try:
        load_exactly(model, state, str(file))
    except ValueError as error:
        raise ValueError(f"{error}; give HPSv3's file, and as base the model that it was trained from") from None
    model.head.float()
    model.backbone.to(dtype)
    return model.eval().requires_grad_(False).to(device)


def renamed(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors under this module's names, without the language head, which nothing here reads.

    Raises:
        ValueError: a name that is neither the backbone's nor the head's.
    """
    named = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is not None:
            named[PREFIXES[prefix] + name.removeprefix(prefix)] = value
        elif name != LANGUAGE_HEAD:
            raise ValueError(f"weights {file}: unknown tensor {name}; give HPSv3's file")
    return named
