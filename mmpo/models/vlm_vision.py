"""One vector of an image by the vision tower of a vision-language model itself."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmpo.models.vlm_parts import bare, vlm_parts


@torch.inference_mode()
def pooled_image(model: Any, processor: Any, image: Image.Image) -> Tensor:
    """What the model's own tower says of a whole image, before the projector.

    The tower's pooled output where it has one (CLIP: the class token's state behind the last layer norm; SigLIP: its
    attention head), else the mean of its last states (Qwen-VL: of all patches). Of an image that is seen in tiles
    (LLaVA-NeXT, Idefics3) the mean over the tiles. An image goes through alone, so its features depend on it alone.

    Args:
        model: of transformers, on its device.
        processor: of the model.
        image: RGB.
    Returns:
        [D] float32 on the CPU.
    Raises:
        ValueError: the tower gives something else.
    References:
        Xing et al., arXiv 2502.13146, retrieve by the VLM's own vision encoder; how they pool it is not stated there.
    """
    inner = bare(model)
    tower = inner.get_submodule(vlm_parts(inner).vision[0])
    said: list[Tensor] = []

    def keep(module: Any, given: Any, output: Any) -> None:
        said.append(_pooled(output))  # at once: LLaVA puts the projected features into the tower's own output

    hook = tower.register_forward_hook(keep)
    try:
        inputs = processor.image_processor(images=[image], return_tensors="pt")
        wanted = {
            name: x.to(inner.device, inner.dtype if x.is_floating_point() else None)
            for name, x in inputs.items()
            if isinstance(x, Tensor)
        }
        inner.get_image_features(**wanted, return_dict=True)
    finally:
        hook.remove()
    return said[0].float().cpu()


def _pooled(output: Any) -> Tensor:
    states = getattr(output, "last_hidden_state", output)
    pooled = getattr(output, "pooler_output", None)
    if not isinstance(states, Tensor) or states.dim() not in (2, 3):
        raise ValueError(f"model: its vision tower gives {type(output).__name__}, of which there is no known vector")
    if states.dim() == 2:  # patches of the one image, in a row
        return states.mean(0)
    by_tile = pooled if isinstance(pooled, Tensor) and pooled.dim() == 2 else states.mean(1)
    return by_tile.mean(0)
