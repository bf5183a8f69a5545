"""Rows of preferences between answers by position, encoded when a step asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmpo.answer_batch import AnswerBatch
from mmpo.answer_pairs import AnswerPair
from mmpo.data.answer_collate import collate_answers
from mmpo.data.answer_tokens import AnswerEncoder, EncodedPair
from mmpo.data.negative_images import with_negative_images

LENGTHS = 8
"""At most so many groups of rows of about one length."""


class AnswerRows:
    """Rows that were found good, with their rejected images.

    Args:
        pairs: the rows; their images stay as the files they came in, and are decoded when a step needs them.
        encoder: of the model.
        negative_image: kind of rejected image, see `with_negative_images`.
        seed: of those.
        others: images to take for the kind "random".
        sizes: per row what the rows of one forward share; default: nothing.
        keys: per row and branch its name and `AnswerTokens.key`, where what a model says of them is kept.
    """

    def __init__(
        self,
        pairs: Sequence[AnswerPair],
        encoder: AnswerEncoder,
        *,
        negative_image: str = "data",
        seed: int = 0,
        others: Sequence[bytes] = (),
        sizes: Sequence[int] | None = None,
        keys: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._pairs, self._encoder = pairs, encoder
        self._kind, self._seed, self._others = negative_image, seed, others
        self._sizes = sizes if sizes is not None else [0] * len(pairs)
        self._keys = keys

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def longest(self) -> int:
        """A chosen and a rejected side."""
        return 2

    @property
    def sizes(self) -> Sequence[int]:
        """Per row what the rows of one forward share."""
        return self._sizes

    def name(self, index: int) -> str:
        """The row's id."""
        return self._pairs[index].id

    def keys(self, index: int) -> Mapping[str, str]:
        """By branch the hash of all that a model's log-probabilities of it depend on."""
        return self._keys[index]

    def pair(self, index: int) -> AnswerPair:
        """The row as it was read."""
        return self._pairs[index]

    def answers(self, indices: Sequence[int]) -> AnswerBatch:
        """The rows at these positions, encoded.

        Raises:
            ValueError: a row that was good when it was read is not any more.
        """
        encoded = []
        for index in indices:
            pair = with_negative_images(self._pairs[index], self._kind, seed=self._seed, others=self._others)
            found = self._encoder.encode(pair)
            if not isinstance(found, EncodedPair):
                raise found.error()
            encoded.append(found)
        return collate_answers(encoded, self._encoder.pad_id)

    def mismatched(self, indices: Sequence[int]) -> AnswerBatch | None:
        """The rows' questions under their images, with the answers of the next of these rows: KTO's baseline.

        Returns:
            Branches chosen and rejected; None where no such row can be encoded.
        """
        encoded = []
        for index, other in zip(indices, [*indices[1:], *indices[:1]], strict=True):
            if index == other:
                continue
            said = self._pairs[other]
            row = replace(
                self._pairs[index],
                chosen=said.chosen,
                rejected=said.rejected or said.chosen,
                rejected_images=None,
                chosen_spans=(),
                rejected_spans=(),
            )
            found = self._encoder.encode(row)
            if isinstance(found, EncodedPair):  # else it is too long with this answer
                both = {name: found.branches[name] for name in ("chosen", "rejected")}
                shown = {key: found.images[key] for branch in both.values() for key in branch.images}
                encoded.append(replace(found, branches=both, images=shown))
        return collate_answers(encoded, self._encoder.pad_id) if encoded else None


def by_length(lengths: Sequence[tuple[int, int]], batch_size: int) -> list[int]:
    """Per row a number that rows of about one length share.

    Args:
        lengths: per row (image tokens, all tokens).
        batch_size: rows of a forward; a group has at least four times as many.
    """
    groups = max(1, min(LENGTHS, len(lengths) // (4 * batch_size)))
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    found = [0] * len(lengths)
    for place, row in enumerate(order):
        found[row] = place * groups // len(lengths)
    return found
