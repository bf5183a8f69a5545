"""Images as a forward takes them: pixels of each row, or features of each distinct image encoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Images = Sequence[Mapping[str, Tensor]]
PIXELS = "pixel"


@dataclass(frozen=True)
class ImageFeatures:
    """Features of distinct images, as a model's own encoder gave them.

    Args:
        output: the encoder's output, whose class the model expects.
        parts: per field of the output and image its features; a field with several layers has a list of such.
    """

    output: Any
    parts: Mapping[str, list[Any]]

    def of(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What a forward takes as `mm_encoder_outputs`, for the images of rows, one row's after the other's."""
        wanted = [image for row in rows for image in row]
        fields = {}
        for name, part in self.parts.items():
            layered = name != "pooler_output"
            fields[name] = [[layer[i] for i in wanted] for layer in part] if layered else [part[i] for i in wanted]
        return {"image": type(self.output)(**fields)}


def encode_images(model: Any, images: Images) -> ImageFeatures:
    """Every image through tower and projector, in one call.

    Args:
        model: the bare transformers model.
    Raises:
        ValueError: the model's encoder gives something that cannot be told apart by image.
    """
    output = model.get_image_features(
        **image_inputs(model, images, [[i] for i in range(len(images))]), return_dict=True
    )
    pooled = output.pooler_output
    if len(pooled) != len(images):
        raise ValueError(f"its encoder gives {len(pooled)} features for {len(images)} images")
    if isinstance(pooled, Tensor):
        raise ValueError("its encoder gives the features of all images as one tensor")
    parts: dict[str, list[Any]] = {"pooler_output": list(pooled)}
    layers = getattr(output, "deepstack_features", None)
    if layers is not None:
        parts["deepstack_features"] = [list(layer) for layer in layers]
    return ImageFeatures(output, parts)


def image_inputs(model: Any, images: Images, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """What the model takes of the rows' images, one row's after the other's; nothing where no row has one.

    Args:
        model: the bare model; says device and dtype.
        images: distinct ones, each as a batch of one.
        rows: per row, places in `images`.
    """
    if not any(rows):
        return {}
    names = list(images[next(i for row in rows for i in row)])
    if not names:
        return {}
    if "pixel_attention_mask" in names:  # Idefics' relatives: a dimension for rows, and one for a row's tiles
        empty = {name: images[0][name][:, :0] for name in names}
        merged: list[Mapping[str, Tensor]] = [_joined([images[i] for i in row] or [empty], dim=1) for row in rows]
    else:
        merged = [images[i] for row in rows for i in row]
    inputs = _joined(merged, dim=0)
    return {name: x.to(model.device, model.dtype if x.is_floating_point() else None) for name, x in inputs.items()}


def without_pixels(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Grids and sizes alone: what positions in the language model are made of."""
    return {name: x for name, x in inputs.items() if not name.startswith(PIXELS)}


def _joined(images: Images, dim: int) -> dict[str, Tensor]:
    return {name: _cat([image[name] for image in images], dim) for name in images[0]}


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Along one dimension, after padding the others with zeros at their ends to the largest."""
    sizes = [max(x.shape[at] for x in tensors) for at in range(tensors[0].dim())]
    padded = []
    for x in tensors:
        short = [0 if at == dim else size - x.shape[at] for at, size in enumerate(sizes)]
        amounts = [n for missing in reversed(short) for n in (0, missing)]
        padded.append(F.pad(x, amounts) if any(amounts) else x)
    return torch.cat(padded, dim)
