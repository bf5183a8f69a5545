"""Exact search for the nearest images by the cosine of their features. No model: features come from the caller."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 16_384
"""Images of the index whose cosines exist at once."""


class Neighbour(NamedTuple):
    """An image of the index, and its cosine with the image that was asked for."""

    place: int
    cosine: float


Search = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(queries [Q, D], index [N, D], k) of unit rows -> (cosines [Q, k], places [Q, k]), the nearest first."""


def unit_rows(features: Tensor) -> Tensor:
    """[N, D] features as float32 of length 1, so that an inner product is a cosine.

    Raises:
        ValueError: another shape, or a row that is not finite or all zero.
    """
    if features.dim() != 2:
        raise ValueError(f"features: expected [N, D], got shape {list(features.shape)}")
    lengths = features.float().norm(dim=1, keepdim=True)
    bad = (~(lengths.isfinite() & (lengths > 0))).squeeze(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"features: row {bad[0]} is all zero or not finite, so it has no direction; check the encoder")
    return features.float() / lengths


def torch_search(queries: Tensor, index: Tensor, k: int, *, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Every query against every image, a chunk of the index at a time.

    Equal cosines: the lower place is first; at the k-th place any of them is taken.

    Args:
        queries: [Q, D], rows of length 1.
        index: [N, D], rows of length 1.
        k: so many, or N where there are fewer.
        chunk: rows of the index at once; memory is Q · chunk numbers.
    Returns:
        [Q, k] cosines and [Q, k] places in the index, the nearest first.
    """
    k = min(k, len(index))
    cosines, places = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
    for start in range(0, len(index) if k else 0, chunk):
        part = queries @ index[start : start + chunk].T
        best, at = part.topk(min(k, part.shape[1]), dim=1)
        cosines, places = torch.cat([cosines, best], 1), torch.cat([places, at.cpu() + start], 1)
        order = places.argsort(dim=1, stable=True)
        cosines, places = cosines.gather(1, order.to(cosines.device)), places.gather(1, order)
        order = cosines.sort(dim=1, descending=True, stable=True).indices[:, :k]
        cosines, places = cosines.gather(1, order), places.gather(1, order.cpu())
    return cosines, places


def faiss_search(queries: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same by faiss' exact inner-product index (`pip install 'mmpo[retrieval]'`).

    Raises:
        ValueError: faiss is not installed.
    """
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        raise ValueError(
            "retrieval.search: faiss is not installed; pip install 'mmpo[retrieval]', or retrieval.search=torch"
        ) from None
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index.cpu().numpy())
    cosines, places = flat.search(queries.cpu().numpy(), min(k, len(index)))
    return torch.from_numpy(cosines), torch.from_numpy(places)


SEARCHES: dict[str, Search] = {"torch": torch_search, "faiss": faiss_search}


def neighbours(
    queries: Tensor,
    index: Tensor,
    k: int,
    *,
    names: Sequence[str],
    own: Sequence[str],
    copy_cosine: float = 1.0,
    search: Search = torch_search,
) -> list[list[Neighbour]]:
    """The k nearest other images of each query.

    Args:
        queries: [Q, D] of length 1.
        index: [N, D] of length 1.
        names: [N] what each image of the index is; images of one name are one image.
        own: [Q] each query's name: images of that name are left out.
        copy_cosine: an image at least so near is taken for a copy of the query, and left out too; 1 and above: none.
    Returns:
        Per query at most k, the nearest first, each name once.
    """
    found: list[list[Neighbour]] = [[] for _ in own]
    wanted, most = min(k + 1, len(index)), len(index)
    while True:
        cosines, places = search(queries, index, wanted)
        for row, kept in enumerate(found):
            kept[:] = _others(cosines[row].tolist(), places[row].tolist(), names, own[row], copy_cosine)[:k]
        if wanted == most or all(len(kept) == k for kept in found):
            return found
        wanted = min(2 * wanted + 8, most)  # copies took places; ask for more


def _others(
    cosines: Sequence[float], places: Sequence[int], names: Sequence[str], own: str, copy_cosine: float
) -> list[Neighbour]:
    seen, kept = {own}, []
    for cosine, place in zip(cosines, places, strict=True):
        if names[place] in seen or (copy_cosine < 1 and cosine >= copy_cosine):
            continue
        seen.add(names[place])
        kept.append(Neighbour(place, min(1.0, max(-1.0, cosine))))
    return kept
