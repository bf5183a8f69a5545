"""Preference data from other people's files to cached tensors: nothing lost silently, nothing on the wrong side."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import make_groups, picture

import rewards
from mmpo.data import images, pairing
from mmpo.data.cache import TensorCache
from mmpo.data.encoded import EncodedGroups
from mmpo.data.encoding import Caches, EncodedRow, encode_groups
from mmpo.data.images import decode, encode, to_pixels
from mmpo.data.readers import FORMATS, ReadReport, read_pairs
from mmpo.data.rows import list_row, list_schema, pair_row, pair_schema
from mmpo.data.shards import mark_done, read_done, read_rows, shard_file, write_shard
from mmpo.data.split import hold_out
from mmpo.recipe_files import validate
from mmpo.records import Candidate, Group, Prompt
from pipelines import own_samples
from pipelines.grid import CELL, side_by_side
from pipelines.label import label
from pipelines.prompts import load_prompts
from rewards.scores import Scores

A, B, C = picture(1), picture(2), picture(3)
PAIR = {"prompt": "a red cat", "chosen": A, "rejected": B}
RANKED = {"prompt": "a red cat", "images": [A, B, C], "rank": [2, 3, 1]}
PICK_A_PIC = {
    "are_different": True,
    "best_image_uid": "uid-0",
    "caption": "a red cat",
    "created_at": datetime(2023, 1, 2, 3, 4, 5, 678901),
    "has_label": True,
    "image_0_uid": "uid-0",
    "image_0_url": "https://example.org/0.jpg",
    "image_1_uid": "uid-1",
    "image_1_url": "https://example.org/1.jpg",
    "jpg_0": A,
    "jpg_1": B,
    "label_0": 1.0,
    "label_1": 0.0,
    "model_0": "model zero",
    "model_1": "model one",
    "ranking_id": 7,
    "user_id": 3,
    "num_example_per_prompt": 4,
    "__index_level_0__": 11,
}
PICK_A_PIC_SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ns")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("__index_level_0__", pa.int64()),
    ]
)


def as_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, rows: Sequence[dict[str, Any]], name: str = "a", schema: pa.Schema | None = None) -> Path:
    """A parquet file of rows, by pyarrow alone, as other people's tools write it."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / f"{name}.parquet")
    return folder


def read(path: Path, **options: Any) -> tuple[list[Group], ReadReport]:
    """All pairs at a path, and what was left out."""
    report = ReadReport()
    return list(read_pairs(str(path), report=report, **options)), report


def contents(groups: Sequence[Group]) -> list[list[bytes]]:
    """The images' bytes, best first."""
    return [[candidate.image for candidate in group.candidates] for group in groups]


# ---------------------------------------------------------------------------------------------------------- images


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


# -------------------------------------------------------------------------------------------------- our own parquet


def full_group(count: int) -> Group:
    """A group that uses every field that a row can hold."""
    return Group(
        id="0123456789abcdef01234567",
        prompt=Prompt("A red  cat", key="scene 5", split="tune"),
        candidates=[Candidate(picture(i), {"model": f"m{i}", "seed": i}) for i in range(count)],
        scores={"shapes": [1.0, *[0.25] * (count - 1)]},
        rank=list(range(1, count + 1)),
    )


def test_pair_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    group = full_group(2)
    write_shard(tmp_path, 0, [pair_row(group)], pair_schema(["shapes"]))
    (back,), report = read(tmp_path)
    assert (back.id, back.prompt, back.scores) == (group.id, group.prompt, group.scores)
    assert back.candidates == group.candidates
    assert back.source == f"{tmp_path / 'shard-00000.parquet'}, row 0"
    assert report.counts == {"rows": 1, "pairs": 1}


def test_list_rows_come_back_as_their_best_and_worst(tmp_path: Path) -> None:
    group = full_group(4)
    write_shard(tmp_path, 0, [list_row(group)], list_schema(["shapes"]))
    (back,), _ = read(tmp_path)
    assert back.prompt == group.prompt
    assert contents([back]) == [[picture(0), picture(3)]]


@pytest.mark.parametrize(("count", "columns"), [(2, ("chosen", "rejected")), (3, ("images",))])
def test_datasets_shows_our_images_as_images(tmp_path: Path, count: int, columns: tuple[str, ...]) -> None:
    from datasets import load_dataset

    group = full_group(count)
    schema = pair_schema(["shapes"]) if count == 2 else list_schema(["shapes"])
    file = write_shard(tmp_path, 0, [pair_row(group) if count == 2 else list_row(group)], schema)
    loaded = load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "hub"))["train"]
    shown = [loaded[0][column] for column in columns] if count == 2 else loaded[0]["images"]
    assert [image.size for image in shown] == [(16, 16)] * count
    assert shown[0].tobytes() == decode(group.candidates[0].image).tobytes()
    assert loaded[0]["prompt"] == "A red  cat"
    assert loaded[0]["scores"]["shapes"][0] == 1.0


def test_rows_are_read_in_order_of_shards_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for number in (10, 2):
        write_shard(tmp_path, number, [{"n": number}, {"n": number + 0.5}], pa.schema([("n", pa.float64())]))
    write_shard(tmp_path / ".work", 1, [{"n": 1}], pa.schema([("n", pa.float64())]))
    write_shard(tmp_path / "more", 1, [{"n": 99}], pa.schema([("n", pa.float64())]))
    assert [row["n"] for _, row in read_rows(tmp_path)] == [99, 2, 2.5, 10, 10.5]
    assert [source.rpartition(", ")[2] for source, _ in read_rows(shard_file(tmp_path, 2))] == ["row 0", "row 1"]


def test_a_failed_write_leaves_the_old_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pa.schema([("n", pa.int64())])
    file = write_shard(tmp_path, 0, [{"n": 1}], schema)
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path, 0, [{"n": 2}], schema)
    assert [row["n"] for _, row in read_rows(file)] == [1]
    assert [row["n"] for _, row in read_rows(tmp_path)] == [1]


def test_the_marker_holds_settings_and_summary(tmp_path: Path) -> None:
    assert read_done(tmp_path) is None
    mark_done(tmp_path, {"seed": 3}, {"pairs": 5})
    assert read_done(tmp_path) == {"settings": {"seed": 3}, "summary": {"pairs": 5}}


# ------------------------------------------------------------------------------------------- other people's parquet


def test_trl_columns_written_by_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"prompt": Value("string"), "chosen": ImageFeature(), "rejected": ImageFeature()})
    columns = {"prompt": ["a red cat", "a dog"], "chosen": [decode(A), decode(C)], "rejected": [decode(B), decode(A)]}
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    groups, report = read(tmp_path)
    assert [group.prompt.text for group in groups] == columns["prompt"]
    pixels = [[decode(image).tobytes() for image in pair] for pair in contents(groups)]
    assert pixels == [[decode(A).tobytes(), decode(B).tobytes()], [decode(C).tobytes(), decode(A).tobytes()]]
    assert report.counts["pairs"] == 2
    assert len({group.id for group in groups}) == 2


def test_ids_are_the_hash_of_prompt_and_images(tmp_path: Path) -> None:
    other = {**PAIR, "chosen": B, "rejected": A}
    first, _ = read(write(tmp_path / "1", [PAIR, other, {**PAIR, "prompt": "a dog"}]))
    again, _ = read(write(tmp_path / "2", [{**PAIR, "prompt": "a dog"}, PAIR], name="b"))
    assert len({group.id for group in first}) == 3
    assert {group.id for group in again} == {first[0].id, first[2].id}


def test_pick_a_pic_labels_choose_the_side_and_ties_are_counted(tmp_path: Path) -> None:
    rows = [
        PICK_A_PIC,
        {**PICK_A_PIC, "label_0": 0.0, "label_1": 1.0, "best_image_uid": "uid-1"},
        {**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5, "best_image_uid": "tie"},
    ]
    groups, report = read(write(tmp_path, rows, schema=PICK_A_PIC_SCHEMA))
    assert contents(groups) == [[A, B], [B, A]]
    made = [[candidate.provenance["model"] for candidate in group.candidates] for group in groups]
    assert made == [["model zero", "model one"], ["model one", "model zero"]]
    assert {group.prompt.text for group in groups} == {"a red cat"}
    assert groups[0].id != groups[1].id
    assert report.counts == {"rows": 3, "pairs": 2, "ties": 1}


@pytest.mark.parametrize(
    "changes",
    [{"label_1": 1.0}, {"label_0": 0.0, "label_1": 0.0}, {"label_0": 0.0, "label_1": 0.0, "has_label": False}],
    ids=["both best", "none best", "no label"],
)
def test_pick_a_pic_labels_that_contradict_are_no_preference(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The published rows say 1/0, 0/1 or 0.5/0.5; any other couple says nothing of which image is better."""
    groups, report = read(write(tmp_path, [{**PICK_A_PIC, **changes}], schema=PICK_A_PIC_SCHEMA))
    assert not groups
    assert report.counts["bad"] == 1


def test_ranked_rows_give_best_and_worst_and_equal_ranks_are_ties(tmp_path: Path) -> None:
    groups, report = read(write(tmp_path, [RANKED, {**RANKED, "rank": [1, 1, 1]}, {**RANKED, "rank": [1, 2, 2]}]))
    assert contents(groups) == [[C, B], [A, B]]
    assert report.counts == {"rows": 3, "pairs": 2, "ties": 1}


NAN = float("nan")
BAD_ROWS = [
    (PAIR, {"chosen": None}, "chosen"),
    (PAIR, {"rejected": b""}, "rejected"),
    (PAIR, {"prompt": None}, "prompt"),
    (PAIR, {"prompt": "  "}, "prompt"),
    (PICK_A_PIC, {"jpg_1": None}, "jpg_1"),
    (PICK_A_PIC, {"caption": ""}, "caption"),
    (PICK_A_PIC, {"caption": None}, "caption"),
    (PICK_A_PIC, {"label_0": NAN}, "label_0"),
    (PICK_A_PIC, {"label_0": None}, "label_0"),
    (PICK_A_PIC, {"label_0": 0.3}, "label_0"),
    (RANKED, {"images": None}, "images"),
    (RANKED, {"images": [A, None, C]}, "images"),
    (RANKED, {"rank": None}, "rank"),
    (RANKED, {"rank": [1, 2]}, "rank"),
    (RANKED, {"images": [A], "rank": [1]}, "rank"),
    (RANKED, {"rank": [1, None, 2]}, "rank"),
    (RANKED, {"rank": [NAN, 1.0, 2.0]}, "rank"),
]


@pytest.mark.parametrize("on_bad_row", ["skip", "error"])
@pytest.mark.parametrize(("row", "changes", "column"), BAD_ROWS, ids=[str(changes)[:30] for _, changes, _ in BAD_ROWS])
def test_a_bad_row_is_named_counted_and_skipped_or_fatal(
    tmp_path: Path, row: dict[str, Any], changes: dict[str, Any], column: str, on_bad_row: str
) -> None:
    folder = write(tmp_path, [row, {**row, **changes}, {**row, "prompt": "more", "caption": "more"}])
    place = rf"a\.parquet, row 1: .*'{column}'"  # the same for a row that is skipped and one that is fatal
    if on_bad_row == "error":
        with pytest.raises(ValueError, match=place):
            read(folder, on_bad_row="error")
        return
    groups, report = read(folder)
    assert len(groups) == 2
    assert report.counts == {"rows": 3, "pairs": 2, "bad": 1}
    assert len(report.bad) == 1
    assert re.search(place, report.bad[0])


FOREIGN = [
    ({"scores": [0.9, 0.1]}, "scores"),
    ({"scores": 0.9}, "scores"),
    ({"scores": {"clip": 0.9}}, "clip"),
    ({"scores": {"clip": [0.9, 0.1, 0.3]}}, "clip"),
    ({"rank": 1}, "rank"),
    ({"provenance": "midjourney"}, "provenance"),
    ({"provenance": {"model": "midjourney"}}, "provenance"),
    ({"provenance": '{"model": "midjourney"}'}, "provenance"),
]


@pytest.mark.parametrize(("extra", "column"), FOREIGN, ids=[str(extra)[:40] for extra, _ in FOREIGN])
def test_a_foreign_column_of_one_of_our_names_is_ignored_or_named(
    tmp_path: Path, extra: dict[str, Any], column: str
) -> None:
    """Pairs of other tools may have a column `scores` or `rank` of their own kind; that must not end in a traceback."""
    groups, report = read(write(tmp_path, [{**PAIR, **extra}]))
    if groups:
        assert contents(groups) == [[A, B]]
    else:
        assert report.counts["bad"] == 1
        assert column in report.bad[0]


def test_foreign_ids_are_text_and_do_not_merge_rows_of_two_files(tmp_path: Path) -> None:
    """Other people number their rows from 1 in every file; two rows are one only if prompt and images are equal."""
    write(tmp_path, [{**PAIR, "id": 1}])
    write(tmp_path, [{"id": 1, "prompt": "another", "chosen": B, "rejected": C}], name="b")
    groups, _ = read(tmp_path)
    assert all(isinstance(group.id, str) for group in groups)
    assert len({group.id for group in groups}) == 2


def test_a_later_file_without_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, [PAIR])
    write(tmp_path, [{"prompt": "a dog", "chosen": A}], name="b")
    groups, report = read(tmp_path)
    assert len(groups) == 1
    assert report.counts["bad"] == 1
    assert "b.parquet, row 0" in report.bad[0]
    assert "rejected" in report.bad[0]


def test_only_the_first_messages_are_kept_but_all_rows_are_counted(tmp_path: Path) -> None:
    _, report = read(write(tmp_path, [{**PAIR, "chosen": None}] * 30 + [PAIR]))
    assert report.counts == {"rows": 31, "bad": 30, "pairs": 1}
    assert len(report.bad) == 20


def test_unknown_columns_list_what_was_found_and_what_each_format_needs(tmp_path: Path) -> None:
    folder = write(tmp_path, [{"text": "a cat", "picture": A}])
    with pytest.raises(ValueError, match=r"found the columns text, picture") as caught:
        read(folder)
    message = str(caught.value)
    assert str(folder) in message
    for fmt in FORMATS.values():
        assert f"{fmt.name} needs {', '.join(fmt.columns)}" in message


def test_a_named_format_says_which_columns_are_missing(tmp_path: Path) -> None:
    folder = write(tmp_path, [{"prompt": "a cat", "chosen": A}])
    with pytest.raises(ValueError, match=r"missing: rejected; found the columns prompt, chosen; pairs needs prompt"):
        read(folder, format="pairs")


def test_a_named_format_wins_over_detection(tmp_path: Path) -> None:
    folder = write(tmp_path, [{**PAIR, "images": [C, B], "rank": [1, 2], "chosen": B, "rejected": A}])
    assert contents(read(folder)[0]) == [[B, A]]
    assert contents(read(folder, format="ranked")[0]) == [[C, B]]


def test_nothing_to_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path .*nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "images.tar").write_text("")
    with pytest.raises(ValueError, match=r"no \.parquet files in it; found: images\.tar"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"images\.tar: not a readable parquet file"):
        read(tmp_path / "images.tar")
    (tmp_path / "a.parquet").write_text("PAR1, it says, but it is not")
    with pytest.raises(ValueError, match=r"a\.parquet: not a readable parquet file"):
        read(tmp_path)


def test_a_name_that_is_neither_here_nor_on_the_hub_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.path no-such/pairs: no such file or folder, and the hub"):
        list(read_pairs("no-such/pairs"))


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, cut: bool) -> None:
    """A copy that broke off loses the footer; a bad disk damages a page, which shows only while reading rows."""
    file = write(tmp_path, [{**PAIR, "prompt": f"cat {i}"} for i in range(200)]) / "a.parquet"
    data = bytearray(file.read_bytes())
    file.write_bytes(data[: len(data) // 2] if cut else data[:10] + b"\xff" * 40 + data[50:])
    with pytest.raises(ValueError, match=r"a\.parquet"):
        read(tmp_path)


def test_limit_counts_pairs_not_rows(tmp_path: Path) -> None:
    tie = {**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}
    rows = [tie, *[{**PICK_A_PIC, "ranking_id": i} for i in range(5)]]
    groups, report = read(write(tmp_path, rows, schema=PICK_A_PIC_SCHEMA), limit=3)
    assert len(groups) == 3
    assert report.counts == {"rows": 4, "ties": 1, "pairs": 3}


def test_a_group_refuses_columns_of_another_length() -> None:
    candidates = [Candidate(A), Candidate(B)]
    with pytest.raises(ValueError, match=r"x\.parquet, row 3.*'rank' has 3 values for 2 candidates"):
        Group("1", Prompt("a"), candidates, rank=[1, 2, 3], source="x.parquet, row 3")
    with pytest.raises(ValueError, match=r"'clip' has 1 values for 2 candidates"):
        Group("1", Prompt("a"), candidates, scores={"clip": [0.5]})
    with pytest.raises(ValueError, match="no candidates"):
        Group("1", Prompt("a"), [])


# --------------------------------------------------------------------------------------------------------- pairing

SCORES = st.lists(st.one_of(st.none(), st.just(NAN), st.integers(-3, 3).map(float)), min_size=0, max_size=6)
MARGINS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def usable(scores: Sequence[float | None]) -> dict[int, float]:
    """Index to score, of the candidates that could be scored."""
    return {i: score for i, score in enumerate(scores) if score is not None and score == score}


def test_ranks_by_hand() -> None:
    assert pairing.ranks([0.5, 0.9, 0.5, None, 0.1, NAN]) == [2, 1, 2, 5, 4, 5]
    assert pairing.ranks([]) == []


@given(SCORES)
def test_a_rank_is_one_more_than_how_many_are_better(scores: list[float | None]) -> None:
    good = usable(scores)
    expected = [1 + sum(v > good[i] for v in good.values()) if i in good else 1 + len(good) for i in range(len(scores))]
    assert pairing.ranks(scores) == expected


def test_all_pairs_by_hand() -> None:
    scores = [0.0, 3.0, 1.0, None]
    assert pairing.all_pairs(scores) == [(1, 0), (1, 2), (2, 0)]
    assert pairing.all_pairs(scores, margin=1.0) == [(1, 0), (1, 2)]
    assert pairing.all_pairs(scores, limit=1) == pairing.best_worst(scores) == [(1, 0)]
    assert pairing.best_worst(scores, margin=3.0) == []
    assert pairing.all_pairs([0.0, 1.0, 2.0, 3.0], limit=2) == [(3, 0), (2, 1)]


@given(SCORES, MARGINS)
def test_all_pairs_are_exactly_those_beyond_the_margin(scores: list[float | None], margin: float) -> None:
    good = usable(scores)
    pairs = pairing.all_pairs(scores, margin=margin)
    assert sorted(pairs) == sorted((a, b) for a in good for b in good if good[a] - good[b] > margin)


@given(SCORES, MARGINS, st.integers(1, 8))
def test_a_limit_is_a_prefix_that_reuses_a_candidate_only_when_it_must(
    scores: list[float | None], margin: float, limit: int
) -> None:
    every = pairing.all_pairs(scores, margin=margin)
    picked = pairing.all_pairs(scores, margin=margin, limit=limit)
    assert picked == every[:limit]
    uses: Counter[int] = Counter()
    for position, pair in enumerate(picked):
        if max(uses[i] for i in pair):
            assert all(uses[a] or uses[b] for a, b in every[position:])
        uses.update(pair)


@given(SCORES, MARGINS)
def test_best_worst_is_the_largest_gap_or_nothing(scores: list[float | None], margin: float) -> None:
    values = usable(scores).values()
    picked = pairing.best_worst(scores, margin=margin)
    if len(values) < 2 or max(values) - min(values) <= margin:
        assert picked == []
    else:
        ((best, worst),) = picked
        assert (scores[best], scores[worst]) == (max(values), min(values))


# ----------------------------------------------------------------------------------------------------------- caches


def filled(folder: Path, shard_rows: int = 1024, **made_by: Any) -> tuple[TensorCache, torch.Tensor]:
    """A cache of five rows under the keys a to e, and their values."""
    cache = TensorCache(folder, "latents", {"vae": "1", **made_by}, shard_rows=shard_rows)
    values = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    cache.add(list("abc"), {"mean": values[:3], "std": values[:3].exp()})
    cache.add(list("de"), {"mean": values[3:], "std": values[3:].exp()})
    return cache, values


def assert_filled(cache: TensorCache, values: torch.Tensor) -> None:
    """Every key has its own row."""
    assert len(cache) == 5
    for key, value in zip("abcde", values, strict=True):
        assert key in cache
        row = cache.get(key)
        assert torch.equal(row["mean"], value)
        assert torch.equal(row["std"], value.exp())


@pytest.mark.parametrize(("shard_rows", "shards"), [(1024, 1), (3, 2), (1, 2)])
def test_a_cache_gives_back_what_was_added_before_and_after_a_flush(
    tmp_path: Path, shard_rows: int, shards: int
) -> None:
    cache, values = filled(tmp_path, shard_rows)
    assert_filled(cache, values)
    cache.flush()
    assert_filled(cache, values)
    assert_filled(TensorCache(tmp_path, "latents", {"vae": "1"}), values)
    assert len(list(tmp_path.rglob("*.safetensors"))) == shards


def test_a_new_process_reads_the_cache_from_mapped_files(tmp_path: Path) -> None:
    cache, values = filled(tmp_path)
    cache.flush()
    program = (
        "import sys, pathlib\n"
        "from mmpo.data.cache import TensorCache\n"
        "cache = TensorCache(pathlib.Path(sys.argv[1]), 'latents', {'vae': '1'})\n"
        "print(cache.get('d')['mean'].double().sum().item())\n"
        "maps = pathlib.Path('/proc/self/maps')\n"
        "print(not maps.exists() or str(cache.folder) in maps.read_text())\n"
    )
    output = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    total, mapped = output.stdout.split()
    assert float(total) == values[3].double().sum().item()
    assert mapped == "True"


def test_a_key_that_was_never_added_is_a_key_error(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path)
    assert "z" not in cache
    with pytest.raises(KeyError):
        cache.get("z")


def test_other_weights_never_see_this_cache(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path)
    cache.flush()
    other = TensorCache(tmp_path, "latents", {"vae": "2"})
    text = TensorCache(tmp_path, "text", {"vae": "1"})
    assert len(other) == len(text) == 0
    assert len({cache.folder, other.folder, text.folder}) == 3
    assert json.loads((other.folder / "about.json").read_text()) == {"kind": "latents", "vae": "2"}


@pytest.mark.parametrize("damage", ["cut", "gone", "cut index", "fewer keys"])
def test_a_damaged_shard_is_dropped_and_can_be_computed_again(tmp_path: Path, damage: str) -> None:
    cache, values = filled(tmp_path, shard_rows=3)
    cache.flush()
    index = next(file for file in cache.folder.glob("*.keys.json") if json.loads(file.read_text()) == list("abc"))
    tensors = index.with_name(index.name.replace(".keys.json", ".safetensors"))
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-20])
    elif damage == "gone":
        tensors.unlink()
    else:
        index.write_text('["a", "b' if damage == "cut index" else '["a", "b"]')
    again = TensorCache(tmp_path, "latents", {"vae": "1"}, shard_rows=3)
    assert ["a" in again, "c" in again, "d" in again, "e" in again] == [False, False, True, True]
    assert len(again.dropped) == 1
    assert tensors.name in again.dropped[0]
    again.add(list("abc"), {"mean": values[:3], "std": values[:3].exp()})
    again.flush()
    whole = TensorCache(tmp_path, "latents", {"vae": "1"})
    assert_filled(whole, values)
    assert not whole.dropped


def test_tensors_without_their_list_of_keys_do_not_count(tmp_path: Path) -> None:
    """The list of keys is written last: a kill between the two files leaves a shard that is not one."""
    cache, _ = filled(tmp_path)
    cache.flush()
    for index in cache.folder.glob("*.keys.json"):
        index.unlink()
    again = TensorCache(tmp_path, "latents", {"vae": "1"})
    assert len(again) == 0
    assert not again.dropped


# --------------------------------------------------------------------------------------------------------- encoding


class CountingEncoders:
    """Stand-ins for the VAE and the text encoders that remember what they were given."""

    def __init__(self) -> None:
        self.images: list[bytes] = []
        self.prompts: list[str] = []
        self.largest = 0

    def encode_images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.images += [row.numpy().tobytes() for row in pixels]
        self.largest = max(self.largest, len(pixels))
        mean = torch.nn.functional.avg_pool2d(pixels, 2)
        return mean, torch.full_like(mean, 0.5)

    def encode_prompts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        self.prompts += list(texts)
        return {"embedding": torch.tensor([[float(len(text)), 1.0] for text in texts])}


def encode_all(
    folder: Path, groups: Sequence[Group], **options: Any
) -> tuple[list[EncodedRow], Caches, CountingEncoders, ReadReport]:
    """Groups through counting encoders into caches under `folder`."""
    caches = Caches(TensorCache(folder, "latents", {}), TensorCache(folder, "text", {}))
    encoders, report = CountingEncoders(), ReadReport()
    rows = encode_groups(
        groups, caches, encoders.encode_images, encoders.encode_prompts, resolution=16, report=report, **options
    )
    return rows, caches, encoders, report


def shared_groups() -> list[Group]:
    """Four groups of three distinct images and two prompts; two of them are one and the same pair."""

    def pair(name: str, text: str, *files: bytes) -> Group:
        return Group(name, Prompt(text), [Candidate(file) for file in files], source=f"x.parquet, row {name}")

    return [pair("0", "cat", A, B), pair("1", "cat", A, C), pair("2", "dog", C, B), pair("0", "cat", A, B)]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_distinct_image_and_prompt_is_encoded_once(tmp_path: Path, batch_size: int) -> None:
    done: list[int] = []
    rows, caches, encoders, report = encode_all(tmp_path, shared_groups(), batch_size=batch_size, progress=done.append)
    assert [row.id for row in rows] == ["0", "1", "2"]
    assert sorted(encoders.images) == sorted(to_pixels(decode(file), 16).numpy().tobytes() for file in (A, B, C))
    assert sorted(encoders.prompts) == ["", "cat", "dog"]
    assert encoders.largest <= 2 * batch_size
    assert report.counts["duplicates"] == 1
    assert sum(done) == 4
    again, _, second, _ = encode_all(tmp_path, shared_groups())
    assert (second.images, second.prompts) == ([], [])
    assert again == rows
    assert (len(caches.latents), len(caches.texts)) == (3, 3)


def test_a_batch_holds_the_right_latents_and_conditions(tmp_path: Path) -> None:
    rows, caches, _, _ = encode_all(tmp_path, shared_groups())
    batch = EncodedGroups(rows, caches).batch([2, 0], visits=[1, 4])
    expected = [[C, B], [A, B]]
    for at, pair in enumerate(expected):
        for candidate, file in enumerate(pair):
            mean = torch.nn.functional.avg_pool2d(to_pixels(decode(file), 16)[None], 2)[0]
            assert torch.equal(batch.latent_mean[at, candidate], mean)
    assert torch.equal(batch.latent_std, torch.full_like(batch.latent_std, 0.5))
    assert (list(batch.ids), list(batch.visits)) == (["2", "0"], [1, 4])
    assert torch.equal(batch.condition["embedding"], torch.tensor([[[3.0, 1.0]], [[3.0, 1.0]]]))
    assert torch.equal(batch.null_condition["embedding"], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("broken", [b"not an image", B[: len(B) // 2], b""])
def test_a_broken_image_is_named_counted_and_skipped_or_fatal(tmp_path: Path, broken: bytes) -> None:
    groups = shared_groups()
    groups[1] = Group("1", Prompt("cat"), [Candidate(C), Candidate(broken)], source="x.parquet, row 1")
    rows, caches, encoders, report = encode_all(tmp_path / "skip", groups)
    assert [row.id for row in rows] == ["0", "2"]
    assert report.counts["bad"] == 1
    assert report.bad[0].startswith("x.parquet, row 1, rejected: ")
    assert len(encoders.images) == len(caches.latents) == 3
    with pytest.raises(ValueError, match=r"x\.parquet, row 1, rejected: "):
        encode_all(tmp_path / "error", groups, on_bad_row="error")


def test_an_interrupted_encoding_goes_on_where_the_disk_is(tmp_path: Path) -> None:
    groups = make_groups(6)
    caches = Caches(TensorCache(tmp_path, "latents", {}, shard_rows=4), TensorCache(tmp_path, "text", {}))
    encoders = CountingEncoders()

    def stop(done: int) -> None:
        if len(encoders.images) >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_groups(
            groups,
            caches,
            encoders.encode_images,
            encoders.encode_prompts,
            resolution=16,
            batch_size=2,
            progress=stop,
        )
    rows, _, second, _ = encode_all(tmp_path, groups)
    assert len(rows) == 6
    assert len(second.images) == 4


# -------------------------------------------------------------------------------------------------------- hold out


def rows_of(clusters: Sequence[str], splits: Sequence[str] | None = None) -> list[EncodedRow]:
    """An index with these keys; the prompt's text differs in every row, as paraphrases do."""
    sides = splits or [""] * len(clusters)
    return [
        EncodedRow(f"id{i}", Prompt(f"text {i}", key=key, split=side), ("x", "y"), f"row {i}")
        for i, (key, side) in enumerate(zip(clusters, sides, strict=True))
    ]


def ids(rows: Sequence[EncodedRow]) -> list[str]:
    """For comparisons that a failed test can print."""
    return [row.id for row in rows]


CLUSTERS = st.lists(st.sampled_from("abcdefgh"), max_size=60)


@given(CLUSTERS, st.integers(0, 40))
def test_no_cluster_is_on_both_sides_and_at_most_a_fifth_is_held_out(clusters: list[str], pairs: int) -> None:
    rows = rows_of(clusters)
    train, held = hold_out(rows, pairs)
    assert sorted(ids(train) + ids(held)) == sorted(ids(rows))
    assert not {row.prompt.cluster for row in train} & {row.prompt.cluster for row in held}
    assert len(held) <= min(pairs, len(rows) / 5)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert sorted(ids(hold_out(shuffled, pairs)[1])) == sorted(ids(held))


def test_enough_prompts_give_as_many_pairs_as_asked_for() -> None:
    rows = rows_of([f"scene {i}" for i in range(100)])
    assert len(hold_out(rows, 7)[1]) == 7
    assert len(hold_out(rows, 64)[1]) == 20
    assert hold_out(rows, 0) == (rows, [])


def test_copies_of_a_prompt_without_a_key_are_one_cluster() -> None:
    rows = [EncodedRow(f"id{i}", Prompt(text), ("x", "y"), "") for i, text in enumerate(["A cat", "a  CAT "] * 10)]
    assert hold_out(rows, 4) == (rows, [])


def test_the_order_of_holding_out_is_by_hash_not_by_position() -> None:
    rows = rows_of([f"scene {i}" for i in range(50)])
    assert ids(hold_out(rows, 5)[1]) not in (ids(rows[:5]), ids(rows[-5:]))


@given(CLUSTERS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_a_split_column_decides_and_its_clusters_leave_training(
    clusters: list[str], pairs: int, rng: random.Random
) -> None:
    sides = [rng.choice(["", "train", "train", "test", "validation"]) for _ in clusters]
    rows = rows_of(clusters, sides)
    others = [row for row in rows if row.prompt.split in ("test", "validation")]
    train, held = hold_out(rows, pairs)
    assert {row.prompt.split for row in train} <= {"", "train"}
    assert not {row.prompt.cluster for row in train} & {row.prompt.cluster for row in held}
    if others:
        assert set(ids(held)) <= set(ids(others))
        assert len(held) == min(pairs, len(others))
    assert sorted(ids(hold_out(rows[::-1], pairs)[1])) == sorted(ids(held))


# --------------------------------------------------------------------------------- prompts, rewards, labels, stages


def test_prompts_of_a_file_are_its_distinct_lines_in_order(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\n\n  a dog \na cat\nune forêt\n", encoding="utf-8")
    assert [prompt.text for prompt in load_prompts(str(file))] == ["a cat", "a dog", "une forêt"]
    assert [prompt.text for prompt in load_prompts(str(file), limit=2)] == ["a cat", "a dog"]


def test_prompts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("une forêt".encode("latin-1"))
    with pytest.raises(ValueError, match=r"no file '.*nowhere\.txt'; give a text file"):
        load_prompts(str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match=r"empty\.txt holds no prompt"):
        load_prompts(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8"):
        load_prompts(str(tmp_path / "latin.txt"))
    with pytest.raises(ValueError, match=r"no split 'validation'.*valid: train, tune, test"):
        load_prompts("shapes/validation")


def test_rewards_are_found_by_name_and_refused_by_name() -> None:
    assert {"random", "shapes"} <= rewards.names().keys()
    for name in ("random", "shapes"):
        assert rewards.load(name).name == name
    with pytest.raises(ValueError, match=r"reward: unknown name 'shape'; did you mean 'shapes'\? valid: .*random"):
        rewards.load("shape")
    with pytest.raises(ValueError, match=r"reward random: .*sede"):
        rewards.load("random", sede=3)
    with pytest.raises(ValueError, match=r"expected one of correct, .*got 'beauty'"):
        rewards.load("shapes", measure="beauty")


def test_random_labels_are_a_fixed_function_of_image_and_prompt() -> None:
    pictures = [decode(picture(i)) for i in range(300)]
    prompts = [f"prompt {i % 7}" for i in range(300)]
    values = rewards.load("random").score(pictures, prompts).values
    assert values.dtype == np.float32
    assert 0 <= values.min() < 0.05 < 0.95 < values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * (1 / 12 / 300) ** 0.5
    assert np.array_equal(values[::-1], rewards.load("random").score(pictures[::-1], prompts[::-1]).values)
    assert not np.array_equal(values, rewards.load("random", seed=1).score(pictures, prompts).values)
    assert values[0] == np.float32(rewards.load("random").score(pictures[:1], prompts[:1]).values[0])


def test_the_verifier_gives_a_failed_row_for_a_prompt_it_does_not_know() -> None:
    """Not 0: a caption outside the grammar says nothing of the picture."""
    scores = rewards.load("shapes").score([decode(A)] * 2, ["an oil painting of a cat", "a red circle"])
    assert np.isnan(scores.values).all()
    assert all(scores.errors)
    assert all(np.isnan(part).all() for part in scores.parts.values())


class PickyReward:
    """Scores by the prompt's length, cannot score prompts with a question mark, counts its calls."""

    name = "picky"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        self.calls += 1
        failed = ["?" in prompt for prompt in prompts]
        values = [NAN if bad else float(len(prompt)) for bad, prompt in zip(failed, prompts, strict=True)]
        return Scores(np.asarray(values, np.float32), ["asks" if bad else None for bad in failed])


def sample_rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as the sampling stage writes them, as far as labelling reads them."""
    return [
        {"id": f"id{i}", "prompt": text, "image": {"bytes": picture(i), "path": None}, "image_hash": f"hash{i}"}
        for i, text in enumerate(texts)
    ]


def test_labels_stand_beside_images_and_a_failed_row_is_null_with_its_error(tmp_path: Path) -> None:
    write(tmp_path / "samples", sample_rows(["cat", "why?"]), name="shard-00000")
    write(tmp_path / "samples", sample_rows(["a dog"]), name="shard-00001")
    before = {file: file.read_bytes() for file in (tmp_path / "samples").iterdir()}
    reward, done = PickyReward(), []
    assert label(tmp_path / "samples", reward, tmp_path / "labels", done.append) == 1
    rows = [row for _, row in read_rows(tmp_path / "labels")]
    assert [(row["score"], row["error"]) for row in rows] == [(3.0, None), (None, "asks"), (5.0, None)]
    assert {row["reward"] for row in rows} == {"picky"}
    assert [row["image_hash"] for row in rows] == ["hash0", "hash1", "hash0"]
    assert (reward.calls, done) == (2, [2, 1])
    shard_file(tmp_path / "labels", 1).unlink()
    assert label(tmp_path / "samples", reward, tmp_path / "labels") == 1
    assert reward.calls == 3
    assert before == {file: file.read_bytes() for file in (tmp_path / "samples").iterdir()}


class FakePipeline:
    """Draws a fixed picture per prompt and noise, and counts what it was asked for."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, prompt: Sequence[str], generator: Sequence[torch.Generator], **options: Any) -> FakePipeline:
        self.made += len(prompt)
        self.images = [decode(picture(g.initial_seed() % 2**32)) for g in generator]
        return self


def own_data(folder: Path, **changes: Any) -> Any:
    """The data section of a recipe that makes its own pairs."""
    prompts = folder / "prompts.txt"
    prompts.write_text("a cat\na dog\na red moon\n")
    make = {"prompts": str(prompts), "per_prompt": 4, "reward": "random", "pairs": "all", **changes}
    tree = {"model": {"path": "x"}, "data": {"path": str(folder / "pairs"), "make": make}, "output": "o"}
    return validate(tree).data


MODEL = {"model": "x", "revision": None, "weights": "0"}


def test_own_samples_become_scored_pairs_and_are_made_once(tmp_path: Path) -> None:
    data, pipeline, lines = own_data(tmp_path), FakePipeline(), []
    assert not own_samples.is_made(data, MODEL)
    own_samples.make_pairs(data, MODEL, lambda: pipeline, lines.append)
    assert own_samples.is_made(data, MODEL)
    assert pipeline.made == 12
    groups, _ = read(tmp_path / "pairs")
    assert len(groups) == 9
    for group in groups:
        chosen, rejected = group.scores["random"]
        values = rewards.load("random").score([decode(c.image) for c in group.candidates], [group.prompt.text] * 2)
        assert (chosen, rejected) == tuple(values.values)
        assert chosen > rejected
        assert all(candidate.provenance["weights"] == "0" for candidate in group.candidates)
    assert lines == [
        "9 pairs from 12 images of 3 prompts; 0 prompts without a pair (all candidates within the margin), "
        "0 images unscored"
    ]
    own_samples.make_pairs(own_data(tmp_path, margin=0.1), MODEL, lambda: pipeline, lines.append)
    assert pipeline.made == 12, "a change of the pairing sampled again"


def test_pairs_of_other_settings_and_foreign_files_are_never_overwritten(tmp_path: Path) -> None:
    data = own_data(tmp_path)
    own_samples.make_pairs(data, MODEL, FakePipeline, lambda text: None)
    with pytest.raises(ValueError, match=r"pairs: was made with other settings \(margin, seed\); give another"):
        own_samples.is_made(own_data(tmp_path, margin=0.2, seed=3), MODEL)
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        own_samples.is_made(data, {**MODEL, "weights": "1"})
    write(tmp_path / "other", [PAIR])
    foreign = data.model_copy(update={"path": str(tmp_path / "other")})
    with pytest.raises(ValueError, match=r"other: holds parquet files that data\.make did not write"):
        own_samples.is_made(foreign, MODEL)


def test_an_unknown_reward_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    """Sampling takes hours on a real model; a misspelt reward must not wait for its end."""
    data = own_data(tmp_path, reward="rondom")
    with pytest.raises(ValueError, match="did you mean 'random'"):
        own_samples.make_pairs(data, MODEL, lambda: pytest.fail("sampled first"), lambda text: None)


def test_shards_of_an_interrupted_call_do_not_stay_among_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the marker and started again with fewer pairs: nothing of the first call may remain."""
    monkeypatch.setattr(own_samples, "ROWS_PER_SHARD", 2)
    own_samples.make_pairs(own_data(tmp_path), MODEL, FakePipeline, lambda text: None)
    (tmp_path / "pairs" / "done.json").unlink()
    fewer = own_data(tmp_path, pairs="best_worst")
    assert not own_samples.is_made(fewer, MODEL)
    own_samples.make_pairs(fewer, MODEL, FakePipeline, lambda text: None)
    assert read_done(tmp_path / "pairs")["summary"]["pairs"] == 3
    assert len(read(tmp_path / "pairs")[0]) == 3


def test_a_grid_shows_the_first_sample_of_each_prompt_base_above_tuned() -> None:
    base = [Image.new("RGB", (16, 16), (0, 0, 200 + i)) for i in range(6)]
    tuned = [Image.new("RGB", (16, 16), (200 + i, 0, 0)) for i in range(6)]
    sheet = decode(side_by_side(base, tuned, per_prompt=3))
    assert sheet.size == (2 * (CELL + 4), 2 * (CELL + 4))
    centres = [[sheet.getpixel((66 + 132 * column, 66 + 132 * row)) for column in range(2)] for row in range(2)]
    assert centres == [[(0, 0, 200), (0, 0, 203)], [(200, 0, 0), (203, 0, 0)]]
