"""Sheets of samples before and after training, and strips of previews: made, and cut up again."""

from __future__ import annotations

import pytest
from PIL import Image

from mmpo.data.images import decode, encode
from pipelines.grid import CELL, COLUMNS, GAP, LARGEST, cells, side_by_side, tiles


def colored(count: int, size: tuple[int, int], *, red: int) -> list[Image.Image]:
    """Images of one colour each, told apart by their blue."""
    return [Image.new("RGB", size, (red, 0, 10 * number)) for number in range(count)]


def test_a_grid_shows_the_first_sample_of_each_prompt_base_above_tuned() -> None:
    base = [Image.new("RGB", (16, 16), (0, 0, 200 + i)) for i in range(6)]
    tuned = [Image.new("RGB", (16, 16), (200 + i, 0, 0)) for i in range(6)]
    sheet = decode(side_by_side(base, tuned, per_prompt=3))
    assert sheet.size == (2 * (CELL + 4), 2 * (CELL + 4))
    centres = [[sheet.getpixel((66 + 132 * column, 66 + 132 * row)) for column in range(2)] for row in range(2)]
    assert centres == [[(0, 0, 200), (0, 0, 203)], [(200, 0, 0), (203, 0, 0)]]


@pytest.mark.parametrize(("size", "cell"), [((16, 16), (128, 128)), ((200, 300), (200, 300)), ((512, 768), (256, 384))])
def test_tiles_are_what_went_into_the_sheet(size: tuple[int, int], cell: tuple[int, int]) -> None:
    """Wide and tall images keep their shape; every tile is pure, so no gap and no neighbour is in it."""
    base, tuned = colored(4, size, red=0), colored(4, size, red=255)
    grid = {"prompts": ["one", "two"], "cell": list(cell), "gap": GAP}
    found = tiles(side_by_side(base, tuned, per_prompt=2), grid)
    assert [prompt for prompt, _, _ in found] == ["one", "two"]
    for column, (_, upper, lower) in enumerate(found):
        assert upper.size == lower.size == cell
        assert upper.getcolors() == [(cell[0] * cell[1], (0, 0, 20 * column))]
        assert lower.getcolors() == [(cell[0] * cell[1], (255, 0, 20 * column))]


def test_a_sheet_has_no_more_columns_and_pixels_than_can_be_looked_at() -> None:
    base = colored(COLUMNS + 5, (1024, 1024), red=0)
    grid = {"prompts": [str(number) for number in range(COLUMNS)], "cell": [LARGEST, LARGEST], "gap": GAP}
    found = tiles(side_by_side(base, base, per_prompt=1), grid)
    assert [prompt for prompt, _, _ in found] == grid["prompts"]
    assert found[0][1].size == (LARGEST, LARGEST)


def test_a_sheet_of_another_grid_is_refused() -> None:
    base = colored(2, (16, 16), red=0)
    sheet = side_by_side(base, base, per_prompt=1)
    grid = {"prompts": ["one", "two"], "cell": [CELL, CELL], "gap": GAP}
    with pytest.raises(ValueError, match="264x264 pixels; its grid says 396x264"):
        tiles(sheet, {**grid, "prompts": ["one", "two", "three"]})
    with pytest.raises(ValueError, match="image"):
        tiles(b"no image at all", grid)


def test_a_strip_is_cut_into_its_cells() -> None:
    strip = Image.new("RGB", (48, 16))
    for number in range(3):
        strip.paste((number, 0, 0), (16 * number, 0, 16 * (number + 1), 16))
    assert [cell.getcolors() for cell in cells(encode(strip), 3)] == [[(256, (number, 0, 0))] for number in range(3)]
    with pytest.raises(ValueError, match="no multiple of 5 cells"):
        cells(encode(strip), 5)
