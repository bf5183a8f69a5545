"""ImageReward: how well people would like an image for its prompt, by a BLIP whose text encoder looks at the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rewards.bert_tokens import BertPrompts, bert_tokenizer
from rewards.blip_weights import blip_reward
from rewards.devices import device_of, dtype_of
from rewards.exact_weights import known_as, one_file
from rewards.image_rows import Scored, distinct, row_faults, score_rows
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.views import ShortestSideCrop, normalised
from rewards.weight_files import read_state_dict
from rewards.weights_hash import identity_of, weights_identity

FILE = "ImageReward.pt"
LENGTH = 35  # tokens of a prompt


class ImageReward:
    """(head(BLIP(image, prompt)) − 0.1672) / 1.0333, the released constants; σ(1.0333 · difference) is a preference.

    Images at 224 pixels, shortest side and centre crop; prompts of 35 tokens, what is longer is cut and noted.

    Args:
        weights: ImageReward.pt as a file, the folder it is in, or OWNER/NAME/FILE on the hub.
        revision: on the hub.
        sha256: of the file, checked where given; the published one is not known here.
        vocab: vocab.txt of bert-base-uncased, a folder with it, or a hub name; without it the one beside the weights,
            else the hub's bert-base-uncased.
        device, dtype: of the model; the head is float32.
        batch_size: rows at once.
    References:
        Xu et al., ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation,
        arXiv 2304.05977.
    """

    name = "imagereward"

    def __init__(
        self,
        weights: str = "THUDM/ImageReward/ImageReward.pt",
        revision: str | None = None,
        sha256: str | None = None,
        vocab: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        self._device, self._dtype = device_of(device), dtype_of(dtype)
        file = one_file(weights, revision, sha256, FILE)
        self.model = blip_reward(read_state_dict(file), str(file)).place(self._device, self._dtype)
        self._vocab = vocab or _beside(file) or "bert-base-uncased"
        self._prompts = BertPrompts(bert_tokenizer(self._vocab, self.model.text.config.vocab_size), LENGTH)
        self.view = ShortestSideCrop(self.model.vision.config.image_size, odd="round")
        self.batch_size = batch_size
        self._known = (*known_as(weights, revision, FILE), dtype)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        return identity_of(*self._known, self.view, vocab=weights_identity(self._vocab))

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is a failed row."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`; an image that stands in several rows is encoded once."""
        return score_rows(
            row_faults(self.name, prompts, responses),
            lambda rows: self._run([views[row] for row in rows], [prompts[row] for row in rows]),
        )

    @torch.inference_mode()
    def _run(self, views: Sequence[Any], prompts: Sequence[str]) -> Scored:
        images, numbers = distinct(views)
        pixels = normalised(torch.stack(images).to(self._device, non_blocking=True)).to(self._dtype)
        ids, mask, notes = self._prompts(prompts)
        tokens = self.model.images(pixels)[torch.tensor(numbers, device=self._device)]
        values = self.model(tokens, ids.to(self._device), mask.to(self._device))
        return values.cpu().numpy(), notes


def _beside(file: Path) -> str | None:
    found = file.parent / "vocab.txt"
    return str(found) if found.is_file() else None
