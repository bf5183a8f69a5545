"""Drawing: the palette, the shapes and strokes on a 4x-supersampled canvas. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from mmpo.shapes.grammar import Item

SIZE = 32  # pixels of a side
OVERSAMPLING = 4
Colour = tuple[int, int, int]
# Hues 60 degrees apart: chroma directions stay separable after blur, which only shortens chroma.
PALETTE: dict[str, Colour] = {
    "red": (220, 35, 35),
    "yellow": (225, 215, 30),
    "green": (35, 175, 45),
    "cyan": (35, 195, 205),
    "blue": (45, 65, 220),
    "magenta": (215, 45, 200),
}
BACKGROUNDS: dict[str, Colour] = {"white": (245, 245, 245), "grey": (140, 140, 140), "black": (20, 20, 20)}


@dataclass(frozen=True, slots=True)
class Placed:
    """An object on the canvas: centre `x`, `y` and half its width `half`, in pixels; `rgb` is its exact colour."""

    item: Item
    x: float
    y: float
    half: float
    rgb: Colour


@dataclass(frozen=True, slots=True)
class Stroke:
    """A polyline in pixels, `width` pixels wide."""

    points: tuple[tuple[float, float], ...]
    width: float
    rgb: Colour


def outline(shape: str, x: float, y: float, half: float) -> list[tuple[float, float]]:
    """Corner points of a square, triangle or cross whose bounding box is 2·half wide and high."""
    left, right, top, bottom = x - half, x + half, y - half, y + half
    if shape == "square":
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    if shape == "triangle":
        return [(x, top), (right, bottom), (left, bottom)]
    arm = half / 3
    inner = [(x - arm, y - arm), (x + arm, y - arm), (x + arm, y + arm), (x - arm, y + arm)]
    (a, b, c, d) = inner
    return [
        (left, a[1]), a, (a[0], top), (b[0], top), b, (right, b[1]),
        (right, c[1]), c, (c[0], bottom), (d[0], bottom), d, (left, d[1]),
    ]  # fmt: skip


def draw(background: Colour, objects: list[Placed], strokes: list[Stroke]) -> Image.Image:
    """The RGB image, 32x32, of `objects` with `strokes` over them."""
    image = Image.new("RGB", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING), background)
    pen = ImageDraw.Draw(image)
    for placed in objects:
        x, y, half = (OVERSAMPLING * value for value in (placed.x, placed.y, placed.half))
        if placed.item.shape == "circle":
            pen.ellipse((x - half, y - half, x + half, y + half), fill=placed.rgb)
        else:
            pen.polygon(outline(placed.item.shape, x, y, half), fill=placed.rgb)
    for stroke in strokes:
        points = [(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in stroke.points]
        pen.line(points, fill=stroke.rgb, width=round(OVERSAMPLING * stroke.width), joint="curve")
    return image.reduce(OVERSAMPLING)
