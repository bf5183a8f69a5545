"""Encoded groups as batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpo.contracts import Batch
from mmpo.data.encoding import Caches, EncodedRow
from mmpo.data.latent_caches import View
from mmpo.records import content_id


class EncodedGroups:
    """A sequence of groups, read from the caches when asked for; shorter lists of a batch are filled up and masked.

    Args:
        rows: the index.
        caches: of latents and texts.
        image_conditions: names of what the latent cache holds of each image that the model is conditioned on, such as
            "time_ids" [6].
        mirrored: batches hold the mirrored images' latents too, for draws that mirror.
    """

    def __init__(
        self,
        rows: Sequence[EncodedRow],
        caches: Caches,
        image_conditions: Sequence[str] = (),
        *,
        mirrored: bool = False,
    ) -> None:
        self.rows = rows
        self._caches = caches
        self._image_conditions = image_conditions
        self._mirrored = mirrored
        self._own_captions = any(row.captions for row in rows)  # of the run, so that all batches have one shape

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def longest(self) -> int:
        """Candidates of the longest group."""
        return max((len(row.images) for row in self.rows), default=0)

    def name(self, index: int) -> str:
        """What the group at this position is, with all that its forward depends on: its id says nothing of captions."""
        row = self.rows[index]
        return content_id(row.id, row.captions) if row.captions else row.id

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width, pixels, that each group's images are trained at: what one batch must share."""
        return [row.size for row in self.rows]

    def batch(self, indices: Sequence[int], visits: Sequence[int] | int = 0) -> Batch:
        """The groups at these positions, on the CPU.

        Args:
            indices: B positions of groups of one size.
            visits: how often each was visited before; one number stands for all.
        """
        rows = [self.rows[index] for index in indices]
        longest = max(len(row.images) for row in rows)
        latents = self._latents(rows, longest, mirrored=False)
        turned = self._latents(rows, longest, mirrored=True) if self._mirrored else None
        there = torch.tensor([[k < len(row.images) for k in range(longest)] for row in rows])
        condition = self._texts(rows, longest) | {name: latents[name] for name in self._image_conditions}
        return Batch(
            ids=[row.id for row in rows],
            visits=[visits] * len(rows) if isinstance(visits, int) else list(visits),
            latent_mean=latents["mean"],
            latent_std=latents["std"],
            condition=condition,
            null_condition=dict(self._caches.texts.get("")),
            scores=torch.tensor([[*row.scores, *[0.0] * (longest - len(row.scores))] for row in rows]),
            mask=there,
            extra={name: torch.tensor([row.extra[name] for row in rows]) for name in rows[0].extra},
            mirrored_mean=turned["mean"] if turned else None,
            mirrored_std=turned["std"] if turned else None,
        )

    def _latents(self, rows: Sequence[EncodedRow], longest: int, *, mirrored: bool) -> dict[str, Tensor]:
        """What the latent cache holds, by name [B, K, ...]; a shorter list's last image fills it up."""
        found = []
        for row in rows:
            cache = self._caches.latents.of(View(row.size, mirrored))
            found.append([cache.get(image) for image in _filled(row.images, longest)])
        names = ("mean", "std", *self._image_conditions)
        return {name: torch.stack([torch.stack([x[name] for x in group]) for group in found]) for name in names}

    def _texts(self, rows: Sequence[EncodedRow], longest: int) -> dict[str, Tensor]:
        """Conditions by name, [B, 1, ...] of the prompts, or [B, K, ...] where a group of the run has own captions."""
        count = longest if self._own_captions else 1
        texts = [_filled(row.captions, count) if row.captions else [row.prompt.text] * count for row in rows]
        said = [[self._caches.texts.get(text) for text in group] for group in texts]
        return {name: torch.stack([torch.stack([x[name] for x in group]) for group in said]) for name in said[0][0]}


def _filled(values: Sequence[str], count: int) -> list[str]:
    """So many values: the last one is repeated."""
    return [*values, *[values[-1]] * (count - len(values))]
