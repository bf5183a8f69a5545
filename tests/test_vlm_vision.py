"""One vector of an image by a model's own vision tower."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from vlm_rows import vlm_of

from mmpo.models.vlm_parts import vlm_parts
from mmpo.models.vlm_vision import pooled_image


def test_llavas_vector_is_the_class_token_behind_the_last_layer_norm() -> None:
    vlm = vlm_of("llava")
    image = Image.new("RGB", (40, 30), "red")
    pixels = vlm.processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        tower = vlm.model.model.vision_tower
        states = tower(pixels.to(vlm.model.dtype)).last_hidden_state
        norm = tower.post_layernorm if hasattr(tower, "post_layernorm") else tower.vision_model.post_layernorm
        wanted = norm(states[0, 0])
    found = pooled_image(vlm.model, vlm.processor, image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.float())


@pytest.mark.parametrize("kind", ["llava_next", "qwen2.5", "qwen3", "idefics3"])
def test_every_family_gives_one_vector_that_depends_on_the_image_and_leaves_nothing_behind(kind: str) -> None:
    vlm = vlm_of(kind)
    red, wide = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (80, 30), "blue")
    first, other, again = (pooled_image(vlm.model, vlm.processor, image) for image in (red, wide, red))
    assert first.dim() == 1
    assert first.shape == other.shape
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    tower = vlm.model.get_submodule(vlm_parts(vlm.model).vision[0])
    assert not tower._forward_hooks
