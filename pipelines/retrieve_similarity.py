"""How alike two texts are, by a text encoder of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rewards.devices import device_of
from rewards.weight_places import check_place


class TextEncoder:
    """The mean of a text encoder's last states over a text's tokens, as sentence-transformers' mpnet and MiniLM use it.

    Args:
        weights: folder or hub name of what `AutoModel` and `AutoTokenizer` load.
    Raises:
        ValueError: nothing to load there.
    """

    def __init__(self, weights: str, *, device: str | None = None) -> None:
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        check_place(weights)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(weights)
            self._model: Any = AutoModel.from_pretrained(weights, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"retrieval.similarity {weights}: no text encoder of transformers with its tokenizer found there "
                f"({str(error).splitlines()[0]}); give a hub name or a folder, or words"
            ) from None
        self._device = device_of(device)
        self._model.eval().requires_grad_(False).to(self._device)
        longest = getattr(self._model.config, "max_position_embeddings", None) or 512
        self._longest = min(self._tokenizer.model_max_length, longest)

    def __call__(self, ones: Sequence[str], others: Sequence[str]) -> list[float]:
        """The cosines of texts, pair by pair; a longer text than the encoder reads is cut."""
        return [float(self._vector(one) @ self._vector(other)) for one, other in zip(ones, others, strict=True)]

    @torch.inference_mode()
    def _vector(self, text: str) -> torch.Tensor:
        tokens = self._tokenizer(text, truncation=True, max_length=self._longest, return_tensors="pt").to(self._device)
        states = self._model(**tokens).last_hidden_state[0]  # one text at a time: no padding to leave out
        mean = states.mean(0).double()
        return mean / mean.norm()
