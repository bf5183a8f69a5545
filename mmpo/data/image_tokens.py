"""What a model takes of one image, by its own processor: pixels, and the tokens that stand for it in the text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmpo.data.images import decode
from mmpo.records import bytes_hash

TYPES = ("mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class ImageTokens:
    """One image, processed.

    Args:
        key: same images have the same.
        ids: the tokens that take the place of the image mark.
        types: per token what it stands for, or None where the processor does not say.
        inputs: what the model takes besides: pixels, sizes, grids; the leading dimension is that of a batch of one.
    """

    key: str
    ids: tuple[int, ...]
    types: tuple[int, ...] | None
    inputs: Mapping[str, Tensor]

    def zero(self) -> ImageTokens:
        """The image of all-zero pixels (after normalisation) that takes as many tokens: V-DPO's input without image.

        Raises:
            ValueError: the model leaves all-zero images out, as Idefics' relatives do.
        """
        if "pixel_attention_mask" in self.inputs:
            raise ValueError("this model takes images of zeros for padding; score the branch 'blind' in place of it")
        blank = {name: torch.zeros_like(x) if name == "pixel_values" else x for name, x in self.inputs.items()}
        rest = {name: x.tolist() for name, x in sorted(blank.items()) if name != "pixel_values"}
        return ImageTokens(f"zero {list(blank['pixel_values'].shape)} {rest}", self.ids, self.types, blank)


class ImageReader:
    """Encoded files to what the model takes, each distinct one processed once while it is remembered.

    Args:
        processor: of the model.
        image_mark: what stands for an image in the text.
        kept: how many images are remembered.
    """

    def __init__(self, processor: Any, image_mark: str, *, kept: int = 64) -> None:
        self._processor, self._mark, self._kept = processor, image_mark, kept
        self._known: OrderedDict[str, ImageTokens] = OrderedDict()
        self.types_name = TYPES[0]

    def read(self, data: bytes) -> ImageTokens:
        """One image.

        Raises:
            ValueError: it cannot be decoded, or the processor refuses it.
        """
        key = bytes_hash(data)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        found = self._processed(key, data)
        self._known[key] = found
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return found

    def _processed(self, key: str, data: bytes) -> ImageTokens:
        out = self._processor(text=[self._mark], images=[[decode(data)]], return_tensors="pt", add_special_tokens=False)
        name = next((name for name in TYPES if name in out), None)
        self.types_name = name or self.types_name
        inputs = {key: x for key, x in out.items() if key not in (*TYPES, "input_ids", "attention_mask")}
        types = None if name is None else tuple(out[name][0].tolist())
        return ImageTokens(key, tuple(out["input_ids"][0].tolist()), types, inputs)
