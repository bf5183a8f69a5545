"""The sheet of samples before and after training."""

from __future__ import annotations

from PIL import Image

from mmpo.data.images import decode
from pipelines.grid import CELL, side_by_side


def test_a_grid_shows_the_first_sample_of_each_prompt_base_above_tuned() -> None:
    base = [Image.new("RGB", (16, 16), (0, 0, 200 + i)) for i in range(6)]
    tuned = [Image.new("RGB", (16, 16), (200 + i, 0, 0)) for i in range(6)]
    sheet = decode(side_by_side(base, tuned, per_prompt=3))
    assert sheet.size == (2 * (CELL + 4), 2 * (CELL + 4))
    centres = [[sheet.getpixel((66 + 132 * column, 66 + 132 * row)) for column in range(2)] for row in range(2)]
    assert centres == [[(0, 0, 200), (0, 0, 203)], [(200, 0, 0), (203, 0, 0)]]
