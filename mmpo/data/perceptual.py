"""Whether two pictures of a group are nearly the same, so that preferring one says nothing. No torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8
STEP = 4
BITS = 4
"""Of the 64 bits of two near-identical pictures' hashes, no more differ."""
SHADE = 24
"""Of 255, as `STEP` is: no colour of the pictures on `SIDE` x `SIDE` cells differs by more."""


class Print(NamedTuple):
    """What is compared of a picture.

    Args:
        hash: 64 bits, whether brightness grows from a cell to its right neighbour by more than `STEP` (dHash; without
            a step, the noise of a flat ground fills it).
        cells: [SIDE, SIDE, 3] int16 colours. The hash sees no colours and no small objects: a red circle and a blue
            one share it, and so did a third of the built-in world's pictures with and without one object too many.
    """

    hash: int
    cells: NDArray[np.int16]


def fingerprint(image: Image.Image) -> Print:
    """Of an RGB image of any size; encoding, resizing and light noise change it little."""
    grey = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS), np.int16)
    bits = (grey[:, 1:] > grey[:, :-1] + STEP).ravel()
    cells = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.int16)
    return Print(int.from_bytes(np.packbits(bits).tobytes(), "big"), cells)


def distance(first: int, second: int) -> int:
    """Bits in which two hashes differ."""
    return (first ^ second).bit_count()


def nearly_same(first: Print, second: Print) -> bool:
    """The hashes differ in at most `BITS` bits, and no cell's colour by more than `SHADE`."""
    alike = int(np.abs(first.cells - second.cells).max()) <= SHADE
    return alike and distance(first.hash, second.hash) <= BITS
