"""What models see of a batch of pixels that a model made: the way of a gradient, without PIL."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def shortest_side_crop(pixels: Tensor, size: int) -> Tensor:
    """Shortest side to `size` (bicubic, no antialiasing), centre square, then to [0, 1] and cut off there.

    As SPO's resampler looks at predictions; PIL, which antialiases, sees a stored picture slightly softer.

    Args:
        pixels: [N, 3, H, W] floating point, mostly in [−1, 1].
        size: pixels a side of the result.
    Returns:
        [N, 3, size, size].
    """
    if pixels.dim() != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ValueError(
            f"pixels: expected [N, 3, H, W] of floating point in [-1, 1], got {list(pixels.shape)} of {pixels.dtype}"
        )
    height, width = pixels.shape[2:]
    scale = size / min(height, width)
    high, wide = int(height * scale + 0.5), int(width * scale + 0.5)
    if (high, wide) != (height, width):
        pixels = interpolate(pixels, size=(high, wide), mode="bicubic", align_corners=False)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    return (pixels[:, :, top : top + size, left : left + size] / 2 + 0.5).clamp(0, 1)
