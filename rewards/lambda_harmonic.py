"""The λ-harmonic reward of subject-driven generation: like the subject, and like the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmpo.data.images import decode
from rewards.clip_files import load_clip
from rewards.image_rows import cut_note, finite_or_failed, row_faults
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.views import ShortestSideCrop
from rewards.weights_hash import file_hash, identity_of

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class LambdaHarmonic:
    """1 / (λ / s_i2i + (1 − λ) / s_t2i) with s = (cosine + 1) / 2.

    i2i is the mean cosine of the image with the subject's images, t2i that with the prompt; both are parts. The paper
    takes both from ALIGN (kakaobrain/align-base); here they are a CLIP's, so values differ from the paper's.

    Args:
        references: folder of the subject's images; one reward is of one subject.
        lam: λ in [0, 1]; 0 asks for the prompt alone, 1 for the subject alone.
        weights: hub name or folder of a transformers CLIP.
        revision: on the hub.
        device, dtype: of the model.
        batch_size: rows at once.
    Raises:
        ValueError: no images of the subject, or λ outside [0, 1].
    References:
        Miao et al., Subject-driven Text-to-Image Generation via Preference-based Reinforcement Learning,
        arXiv 2407.12164, equation of the λ-harmonic reward; its code trains with λ = 0 and validates with 0.3.
    """

    name = "lambda_harmonic"

    def __init__(
        self,
        references: str | None = None,
        lam: float = 0.3,
        weights: str = "openai/clip-vit-large-patch14",
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        if isinstance(lam, bool) or not isinstance(lam, int | float) or not 0 <= lam <= 1:
            raise ValueError(f"lam: expected a number from 0 to 1, got {lam!r}")
        files = subject_files(references)
        self.clip = load_clip(weights, revision=revision, device=device, dtype=dtype)
        self.view, self.batch_size, self._lam = ShortestSideCrop(self.clip.size), batch_size, float(lam)
        self._known = (weights, revision, dtype, files)
        seen = [self.view(_read(file)) for file in files]
        parts = [self.clip.images(seen[at : at + batch_size]) for at in range(0, len(seen), batch_size)]
        self._subject = torch.cat(parts)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        weights, revision, dtype, files = self._known
        subject = hashlib.sha256(" ".join(sorted(map(file_hash, files))).encode()).hexdigest()
        return identity_of(weights, revision, dtype, self.view, lam=self._lam, references=f"sha256:{subject}")

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer and an empty prompt are failed rows."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        faults = row_faults(self.name, prompts, responses)
        rows = [row for row, fault in enumerate(faults) if fault is None]
        table = np.full((3, len(faults)), np.nan, np.float32)
        notes: list[str | None] = [None] * len(faults)
        if rows:
            said, lengths = self.clip.texts([prompts[row] for row in rows])
            images = self.clip.images([views[row] for row in rows])
            i2i = (images[:, None] * self._subject[None]).sum(-1).mean(-1).cpu().numpy()
            t2i = (images * said).sum(-1).cpu().numpy()
            table[:, rows] = np.stack([harmonic(i2i, t2i, self._lam), i2i, t2i])
            for row, length in zip(rows, lengths, strict=True):
                notes[row] = cut_note(length, self.clip.length)
        values, errors = finite_or_failed(table[0], faults)
        return Scores(values, errors, {"i2i": table[1], "t2i": table[2]}, notes)


def harmonic(i2i: NDArray[np.float32], t2i: NDArray[np.float32], lam: float) -> NDArray[np.float32]:
    """[N] weighted harmonic means of two cosines [N], moved to [0, 1]; 0 where one that counts is −1."""
    subject, prompt = ((np.asarray(cosine, np.float64).clip(-1, 1) + 1) / 2 for cosine in (i2i, t2i))
    with np.errstate(divide="ignore"):
        total = np.zeros(len(i2i))
        for share, side in ((lam, subject), (1 - lam, prompt)):
            total += share / side if share > 0 else 0
        return (1 / total).astype(np.float32)


def subject_files(references: str | None) -> list[Path]:
    """The images of a folder, by name.

    Raises:
        ValueError: no such folder, or no image in it.
    """
    if references is None:
        raise ValueError("references: name the folder with the subject's images")
    folder = Path(references).expanduser()
    found = sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGES)
    if not found:
        why = "no image is in it" if folder.is_dir() else "no such folder"
        raise ValueError(f"references {references}: {why}; name the folder with the subject's images")
    return found


def _read(file: Path) -> Any:
    try:
        return decode(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"references {file}: {error}") from None
