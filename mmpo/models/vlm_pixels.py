"""How many pixels of an image a vision-language model is given, where its processor goes by them."""

from __future__ import annotations

from typing import Any


def limit_pixels(processor: Any, most: int) -> None:
    """Larger images are scaled down to `most` pixels from now on; in place, and saved with the processor.

    Qwen-VL's processors keep an image's own size between two numbers of pixels, by default up to sixteen thousand
    tokens of one photograph. The others scale or tile to sizes of their own.

    Args:
        processor: with an `image_processor`.
        most: pixels; the checkpoint's own limit where that is lower.
    Raises:
        ValueError: a processor that does not go by pixels, or a limit below its least.
    """
    images = processor.image_processor
    size = {name: value for name, value in dict(images.size).items() if value is not None}
    if set(size) != {"shortest_edge", "longest_edge"} or not hasattr(images, "merge_size"):
        raise ValueError(
            f"model.max_pixels: {type(images).__name__} brings images to sizes of its own; leave the key out "
            "(it is for Qwen-VL and its like)"
        )
    least = size["shortest_edge"]  # both are pixels here, whatever they are called
    if most < least:
        raise ValueError(f"model.max_pixels: {most} is below the {least} that the processor scales images up to")
    images.size = type(images.size)(**(size | {"longest_edge": min(most, size["longest_edge"])}))
