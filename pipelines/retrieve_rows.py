"""One shard of the retrieval pipeline: rows of answers to rows of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from mmpo.data.answer_rows import answer_row, answer_schema
from mmpo.data.candidates import DataCandidate
from mmpo.data.images import decode
from mmpo.data.retrieval import SEARCHES, Neighbour, neighbours, unit_rows
from mmpo.data.retrieval_accept import Accepted, Asked, find_rejected
from mmpo.data.retrieval_masks import MASK, joined_spans, mask_response
from mmpo.records import content_id
from mmpo.retrieve_recipe import RetrieveRecipe
from pipelines.retrieve_index import ImageIndex, pixels_name
from pipelines.retrieve_steps import Steps, ToComplete, ToMask, completion_settings, widened
from rewards.vlm_sampling import Answer


def pair_schema() -> pa.Schema:
    """Columns of the pairs."""
    return answer_schema(rejected_images=True)


@dataclass(frozen=True)
class _Masked:
    """A row that can be asked about."""

    row: DataCandidate
    image: Image.Image
    answer: str
    masked: str
    pixels: str


class RowMaker:
    """Makes pairs of one shard's rows.

    Args:
        made: settings and weights, of which provenance is told.
    """

    def __init__(self, recipe: RetrieveRecipe, steps: Steps, index: ImageIndex, made: Mapping[str, Any]) -> None:
        self._recipe, self._steps, self._index, self._made = recipe, steps, index, made

    def rows(self, chunk: Sequence[DataCandidate], bad: list[str], counts: Counter[str]) -> list[dict[str, Any]]:
        """The pairs, in the order of the rows.

        Args:
            bad: rows that cannot be asked are added, with why.
            counts: "rows", "completions", "cut" (the rejected had not ended), and of what was left out "unmaskable",
                "alone" (no other image), "exhausted" (no image gave an acceptable completion) are counted up.
        """
        masked = self._masked(chunk, bad, counts)
        if not masked:
            return []
        near = self._neighbours(masked)
        asked = [Asked(n, one.answer, one.masked, near[n]) for n, one in enumerate(masked) if near[n]]
        counts["alone"] += len(masked) - len(asked)
        said: dict[tuple[int, int], Answer] = {}
        found = find_rejected(
            asked,
            lambda open_ones, images: self._complete(masked, open_ones, images, said),
            self._steps.similarity,
            tau=self._recipe.retrieval.tau,
        )
        counts["completions"] += len(said)
        rows = []
        for one, outcome in zip(asked, found, strict=True):
            if not isinstance(outcome, Accepted):
                counts["exhausted"] += 1
                continue
            cut = said[one.row, outcome.neighbour.place].cut
            counts["rows"] += 1
            counts["cut"] += cut
            rows.append(self._row(masked[one.row], outcome, cut))
        return rows

    def _masked(self, chunk: Sequence[DataCandidate], bad: list[str], counts: Counter[str]) -> list[_Masked]:
        found = []
        for row in chunk:
            try:
                one = self._mask(row)
            except ValueError as error:
                bad.append(f"{row.place}: {error}")
                continue
            if one is None:
                counts["unmaskable"] += 1
            else:
                found.append(one)
        return found

    def _mask(self, row: DataCandidate) -> _Masked | None:
        """None where the answer says nothing that can be masked, such as "Yes."."""
        if row.error is not None:
            raise ValueError(row.error)
        answer = row.response or ""
        for text in (row.prompt, answer):
            why = self._steps.fault(text)
            if why is not None:
                raise ValueError(why)
        if MASK in answer:
            raise ValueError(f"the answer holds {MASK}, which stands for what is masked; take it out")
        image = decode(row.image)
        spans = joined_spans(answer, self._steps.find_spans(ToMask(row.prompt, answer, image)))
        if not spans:
            return None
        masked = mask_response(answer, widened(spans, answer, self._recipe.retrieval.mask_unit))
        return _Masked(row, image, answer, masked, pixels_name(image))

    def _neighbours(self, masked: Sequence[_Masked]) -> list[list[Neighbour]]:
        settings, index = self._recipe.retrieval, self._index
        if not len(index):
            return [[] for _ in masked]
        known = [index.find(one.pixels) for one in masked]
        queries = [
            unit_rows(self._steps.embed(one.image)[None])[0] if features is None else features
            for one, features in zip(masked, known, strict=True)
        ]
        return neighbours(
            torch.stack(queries),
            index.features,
            settings.neighbours,
            names=index.names,
            own=[one.pixels for one in masked],
            copy_cosine=settings.copy_cosine,
            search=SEARCHES[settings.search],
        )

    def _complete(
        self,
        masked: Sequence[_Masked],
        asked: Sequence[Asked],
        images: Sequence[Neighbour],
        said: dict[tuple[int, int], Answer],
    ) -> list[str]:
        """Completions, a batch at a time; what was said goes into `said`, by row and image."""
        size, texts = self._recipe.retrieval.batch_size, []
        for start in range(0, len(asked), size):
            part = list(zip(asked[start : start + size], images[start : start + size], strict=True))
            answers = self._steps.complete([self._to_complete(masked[one.row], near) for one, near in part])
            for (one, near), answer in zip(part, answers, strict=True):
                said[one.row, near.place] = answer
                texts.append(answer.text or "")
        return texts

    def _to_complete(self, one: _Masked, near: Neighbour) -> ToComplete:
        shown = self._index.hashes[near.place]
        name = content_id("retrieved", one.row.image_hash, one.row.prompt, one.answer, shown, self._seed)
        return ToComplete(one.row.prompt, one.masked, decode(self._index.image(near.place)), int(name[:15], 16))

    @property
    def _seed(self) -> int:
        return self._recipe.retrieval.seed

    def _row(self, one: _Masked, outcome: Accepted, cut: bool) -> dict[str, Any]:
        row, place = one.row, outcome.neighbour.place
        shown = self._index.hashes[place]
        found = {"retrieved": shown, "image_cosine": round(outcome.neighbour.cosine, 6), "masked": one.masked}
        found |= {"text_cosine": round(outcome.cosine, 6), "tries": outcome.tries, "cut": cut}
        made = {**_who(self._made), **completion_settings(self._recipe), **found}
        pair = answer_row(
            id=content_id("retrieved pair", row.image_hash, row.prompt, one.answer, outcome.text, shown),
            prompt=row.prompt,
            key=row.cluster,
            split=row.split,
            image=row.image,
            image_hash=row.image_hash,
            answers=(one.answer, outcome.text),
            made=(row.made, made),
            scores={},
        )
        image = {"bytes": self._index.image(place), "path": None}
        return {**pair, "rejected_images": [image], "rejected_image_hashes": [shown]}


def _who(made: Mapping[str, Any]) -> dict[str, Any]:
    """Who wrote the completion."""
    model = made["model"]
    said = {"model": model["path"], "revision": model["revision"], "weights": made["weights"]["model"]}
    said |= {"dtype": model["dtype"], "licence": made.get("licence"), "steps": made["steps"] or None}
    return {name: value for name, value in said.items() if value is not None}
