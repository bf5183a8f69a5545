"""Images: every kind of file becomes the same square of pixels, or a ValueError that says why not."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import A
from PIL import Image

from mmpo.data import images
from mmpo.data.images import decode, encode, to_pixels


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "colour", "tolerance"),
    [
        (as_file(Image.new("RGB", (8, 6), (10, 200, 30)), "PNG"), (10, 200, 30), 0),
        (as_file(Image.new("RGB", (8, 6), (10, 200, 30)), "JPEG", quality=95), (10, 200, 30), 3),
        (as_file(Image.new("RGB", (8, 6), (10, 200, 30)), "WEBP", lossless=True), (10, 200, 30), 0),
        (as_file(Image.new("L", (8, 6), 77), "PNG"), (77, 77, 77), 0),
        (as_file(Image.new("L", (8, 6), 77), "JPEG", quality=95), (77, 77, 77), 1),
        (as_file(Image.fromarray(np.full((6, 8), 77 * 257, np.uint16)), "PNG"), (77, 77, 77), 1),
        (as_file(Image.new("1", (8, 6), 1), "PNG"), (255, 255, 255), 0),
        (as_file(Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "JPEG", quality=95), (255, 0, 0), 3),
        (as_file(Image.new("RGBA", (8, 6), (255, 0, 0, 255)), "PNG"), (255, 0, 0), 0),
        (as_file(Image.new("RGBA", (8, 6), (255, 0, 0, 0)), "PNG"), (255, 255, 255), 0),
        (as_file(Image.new("RGBA", (8, 6), (255, 0, 0, 128)), "PNG"), (255, 127, 127), 1),
        (as_file(Image.new("LA", (8, 6), (0, 0)), "PNG"), (255, 255, 255), 0),
        (as_file(Image.new("P", (8, 6), 0), "PNG", transparency=0), (255, 255, 255), 0),
    ],
    ids=["png", "jpeg", "webp", "grey png", "grey jpeg", "16-bit grey png", "1-bit png", "cmyk jpeg", "opaque",
         "transparent", "half transparent", "transparent grey", "transparent palette"],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb_on_white(data: bytes, colour: tuple[int, ...], tolerance: int) -> None:
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.abs(np.asarray(image).astype(int) - colour).max() <= tolerance


def test_a_photograph_stands_as_datasets_shows_it() -> None:
    """A camera's JPEG says in its EXIF how to turn it; trained sideways it would be another picture."""
    from datasets import Image as ImageFeature

    exif = Image.Exif()
    exif[0x0112] = 6
    data = as_file(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
    assert decode(data).size == ImageFeature().decode_example({"bytes": data, "path": None}).size == (4, 8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"GIF? no, this is text.", r"not an image file \(22 bytes\)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image file"),
        (encode(Image.effect_noise((64, 64), 80), lossless=False)[:900], "corrupt.*truncated"),
        (encode(Image.effect_noise((64, 64), 80))[:900], "corrupt.*truncated"),
        (as_file(Image.new("1", (9000, 9000)), "PNG"), r"9000x9000 pixels; the limit is 64000000"),
        (as_file(Image.new("1", (10_000, 10_000)), "PNG"), "limit"),
        (as_file(Image.new("1", (20_000, 20_000)), "PNG"), "limit"),
    ],
    ids=["empty", "text", "svg", "truncated jpeg", "truncated png", "81 Mpixel", "100 Mpixel", "400 Mpixel"],
)
def test_a_bad_image_is_a_value_error_that_says_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decode(data)


def test_the_size_limit_is_on_the_header_not_on_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded an image that is too large"))
    with pytest.raises(ValueError, match="16x16 pixels; the limit is 100"):
        decode(A)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_bytes_never_raise_anything_but_a_value_error(data: st.DataObject, kind: str) -> None:
    whole = bytearray(as_file(decode(A), kind))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, on metadata
        with contextlib.suppress(ValueError):
            assert decode(bytes(whole)).mode == "RGB"


@pytest.mark.parametrize("size", [(16, 16), (40, 16), (16, 40)])
def test_the_centre_is_kept_and_values_are_exact(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), ((size[0] - 16) // 2, (size[1] - 16) // 2, (size[0] + 16) // 2, (size[1] + 16) // 2))
    pixels = to_pixels(image, 16)
    assert (pixels.dtype, pixels.shape) == (torch.float32, (3, 16, 16))
    assert torch.equal(pixels, torch.tensor([-1.0, -1.0, 1.0]).view(3, 1, 1).expand(3, 16, 16))


def test_the_shorter_side_is_resized() -> None:
    """Four equal stripes of a wide picture: the two in the middle fill the square, the outer ones are cropped."""
    image = Image.new("RGB", (400, 200))
    for stripe, grey in enumerate((0, 85, 170, 255)):
        image.paste((grey,) * 3, (100 * stripe, 0, 100 * stripe + 100, 200))
    row = to_pixels(image, 20)[0, 10]
    assert torch.allclose(row[1:8], torch.tensor(85 / 127.5 - 1), atol=0.02)
    assert torch.allclose(row[12:19], torch.tensor(170 / 127.5 - 1), atol=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
def test_any_size_gives_a_square_in_range(width: int, height: int, resolution: int) -> None:
    image = Image.effect_noise((width, height), 90).convert("RGB")
    pixels = to_pixels(image, resolution)
    assert pixels.shape == (3, resolution, resolution)
    assert -1 <= pixels.min() <= pixels.max() <= 1
    assert pixels.is_contiguous()


def test_a_thin_picture_is_not_blown_up_before_it_is_cropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """60000 x 2 pixels pass the size limit; resized whole to a shorter side of 512 they would take 23 GB."""

    def resize(self: Image.Image, size: tuple[int, int], *args: Any, **options: Any) -> Image.Image:
        assert size[0] * size[1] <= images.MAX_PIXELS, f"resizes to {size[0]}x{size[1]}"
        return original(self, size, *args, **options)

    original = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", resize)
    assert to_pixels(Image.new("RGB", (60_000, 2)), 512).shape == (3, 512, 512)


def test_encode_is_png_or_jpeg() -> None:
    image = decode(A)
    assert encode(image).startswith(b"\x89PNG")
    assert decode(encode(image)).tobytes() == image.tobytes()
    jpeg = encode(image, lossless=False)
    assert jpeg.startswith(b"\xff\xd8")
    assert np.abs(np.asarray(decode(jpeg)).astype(int) - np.asarray(image)).mean() < 8
