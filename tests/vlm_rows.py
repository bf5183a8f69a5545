"""Tiny vision-language models ready to score, and rows of preference data for them."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import tiny_vlms
import torch
from PIL import Image

from mmpo.answer_batch import AnswerBatch
from mmpo.answer_pairs import AnswerPair, Span, Turn
from mmpo.data.answer_collate import collate_answers
from mmpo.data.answer_tokens import AnswerEncoder, EncodedPair
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import Vlm, load_vlm
from mmpo.records import Prompt

MAKERS = {**tiny_vlms.VLMS, **tiny_vlms.MORE_VLMS}


@cache
def folder_of(name: str) -> Path:
    """A tiny model's folder, made once a process."""
    with quiet_transformers():
        return MAKERS[name](Path(tempfile.mkdtemp(prefix=f"mmpo-{name}-")))


def vlm_of(name: str, dtype: torch.dtype = torch.float64) -> Vlm:
    """A tiny model of its own, with weights at a scale at which gradients are of order one."""
    with quiet_transformers():
        vlm = load_vlm(str(folder_of(name)), dtype=dtype)
    with torch.no_grad():
        for parameter_name, value in vlm.model.named_parameters():
            if value.dim() > 1 and "norm" not in parameter_name:
                value /= 4
    return vlm


def exact_norms(model: Any) -> None:
    """Root mean square norms in the dtype of what they get: transformers' own round to float32 on the way."""

    def exact(module: Any) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            return module.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon)

        return forward

    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = exact(module)


def png(color: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """A plain picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def pair(
    number: int = 0,
    *,
    images: tuple[bytes, ...] = (),
    rejected_images: tuple[bytes, ...] | None = None,
    chosen: str = "A red square.",
    rejected: str | None = "A dog",
    turns: tuple[Turn, ...] | None = None,
    **more: Any,
) -> AnswerPair:
    """A row whose one question shows its images first."""
    asked = turns or (Turn("user", (*([None] * len(images)), "What is it?")),)
    return AnswerPair(
        f"row-{number}", Prompt("What is it?"), asked, images, chosen, rejected, rejected_images, source="made", **more
    )


def mixed_pairs() -> list[AnswerPair]:
    """Three branches; one image; no image; two images in two turns, with an earlier answer and weighed spans."""
    red, blue, green = png("red"), png("blue", (60, 60)), png("green", (28, 50))
    talk = (Turn("user", (None, "Left?")), Turn("assistant", ("Blue.",)), Turn("user", ("And", None, "now?")))
    return [
        pair(0, images=(red,), rejected_images=(blue,), chosen_spans=(Span(2, 5, 3.0),)),
        pair(1, images=(green,), chosen="Yes.", rejected="A longer answer, of a dog"),
        pair(2, chosen="Hello there", rejected="No"),
        pair(3, images=(blue, red), rejected_images=(red, red), turns=talk, chosen="Both", rejected="None of them"),
    ]


def encoded(encoder: AnswerEncoder, rows: list[AnswerPair]) -> list[EncodedPair]:
    """Rows that must be good."""
    found = [encoder.encode(row) for row in rows]
    assert all(isinstance(row, EncodedPair) for row in found), found
    return [row for row in found if isinstance(row, EncodedPair)]


def batch_of(vlm: Vlm, rows: list[AnswerPair] | None = None, **options: Any) -> AnswerBatch:
    """A batch of rows, by default of the mixed ones with the branch `visual`."""
    encoder = AnswerEncoder(vlm.processor, **{"branches": ("chosen", "rejected", "visual"), **options})
    return collate_answers(encoded(encoder, rows or mixed_pairs()), encoder.pad_id)
