"""The limit of an image's pixels: where processors go by it, and as a word of the recipe where they do not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from vlm_rows import folder_of

from mmpo.models.vlm import load_vlm
from mmpo.models.vlm_saving import save_vlm
from mmpo.vlm_recipe import VlmRecipe
from pipelines.build_vlm import load_base_vlm
from pipelines.vlm_sides import sides


def tokens(processor: Any, size: tuple[int, int] = (400, 300)) -> int:
    """Image tokens of a picture of this size."""
    given = processor.image_processor(images=[Image.new("RGB", size)], return_tensors="pt")
    return int(given.image_grid_thw.prod()) // processor.image_processor.merge_size**2


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_large_images_are_scaled_down_and_the_saved_processor_does_so_too(family: str, tmp_path: Path) -> None:
    plain = load_vlm(str(folder_of(family)))
    least = dict(plain.processor.image_processor.size)["shortest_edge"]
    free = tokens(plain.processor)
    small = load_vlm(str(folder_of(family)), max_pixels=least)
    assert 1 <= tokens(small.processor) < free
    assert tokens(small.processor, (8000, 6000)) < free
    loose = load_vlm(str(folder_of(family)), max_pixels=10**9)
    assert tokens(loose.processor) == free, "the checkpoint's own limit is lower"
    again = load_vlm(str(save_vlm(tmp_path / "saved", small, {})))
    assert tokens(again.processor) == tokens(small.processor)


def test_a_recipe_s_limit_is_that_of_training_and_of_evaluation(tmp_path: Path) -> None:
    place = str(folder_of("qwen2.5"))
    tree = {"model": {"path": place, "max_pixels": 784, "lora": {}}, "data": {"path": "shapes/train"}}
    recipe = VlmRecipe.model_validate({**tree, "output": str(tmp_path / "run"), "train": {"precision": "fp32"}})
    here: Any = SimpleNamespace(device=torch.device("cpu"))
    trained = load_base_vlm(recipe, here)
    assert tokens(trained.processor) == 1 < tokens(load_vlm(place).processor)
    base = next(sides(recipe, tmp_path / "run"))
    assert tokens(base.vlm.processor) == 1


def test_what_cannot_be_limited_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.max_pixels: CLIPImageProcessor.* brings images to sizes of its own"):
        load_vlm(str(folder_of("llava")), max_pixels=1000)
    with pytest.raises(ValueError, match=r"model.max_pixels: 10 is below the"):
        load_vlm(str(folder_of("qwen2.5")), max_pixels=10)
