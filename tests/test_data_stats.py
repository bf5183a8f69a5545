"""Figures over pairs, against figures counted by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from tiny import picture

from mmpo.data.headers import EXTENSIONS, extension, read_header
from mmpo.data.images import decode, encode
from mmpo.data.readers import ReadReport
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.records import Candidate, Group, Prompt, content_id
from pipelines.data_source import locate
from pipelines.data_stats import gather, stats_lines, summarise
from pipelines.data_tokens import load_tokenizers


def sized(seed: int, width: int, height: int, *, lossless: bool = True) -> bytes:
    """An image of this size."""
    return encode(decode(picture(seed, 16)).resize((width, height)), lossless=lossless)


A, B, C = sized(1, 64, 64), sized(2, 64, 32), sized(3, 32, 64, lossless=False)
NAN = float("nan")


def pair(
    text: str, chosen: bytes, rejected: bytes, *, split: str = "", scores: tuple[float, float] | None = None
) -> Group:
    """A pair of two models."""
    return Group(
        content_id(text, chosen, rejected),
        Prompt(text, split=split),
        [Candidate(chosen, {"model": "good"}), Candidate(rejected, {"model": "poor"})],
        scores={"r": list(scores)} if scores else {},
    )


GROUPS = [
    pair("a red cat", A, B, scores=(3.0, 1.0)),
    pair("A red  CAT", B, A, scores=(2.0, 2.5)),
    pair("a red cat", B, C, scores=(1.0, NAN)),
    pair("dog", A, C, split="test", scores=(4.0, 3.0)),
]


def figures(groups: list[Group], *, tokenizers: dict | None = None, resolution: int = 64) -> tuple[dict, ReadReport]:
    """What `mmpo data stats --json` writes for these groups."""
    report = ReadReport()
    report.counts.update(rows=len(groups), pairs=len(groups))
    tally = gather(groups, report, tokenizers or {})
    return summarise(tally, report, path="p", format="pairs", layout="parquet", resolution=resolution), report


def test_every_figure_of_four_pairs() -> None:
    found, _ = figures(GROUPS)
    assert found["prompts"] == {"distinct": 2, "pairs_per_prompt": {"min": 1, "median": 1, "max": 3}}
    assert found["caption_words"] == {"min": 1, "median": 3, "max": 3}
    images = found["images"]
    assert images["count"] == 8
    assert images["distinct"] == 3
    assert images["kinds"] == {"PNG": 6, "JPEG": 2}
    assert images["sizes"] == {"64x64": 3, "64x32": 3, "32x64": 2}
    assert images["bytes"] == 3 * len(A) + 3 * len(B) + 2 * len(C)
    assert images["short_side"] == {"min": 32, "median": 32, "max": 64}
    assert images["long_side"] == {"min": 64, "median": 64, "max": 64}
    assert images["aspect_ratio"] == {"min": 0.5, "median": 1, "max": 2}
    assert images["smaller_than_resolution"] == 5 / 8
    assert found["models"] == {"good": 4, "poor": 4}
    assert found["splits"] == {"none": 3, "test": 1}
    gap = found["score_gaps"]["r"]
    assert gap == {"min": -0.5, "median": 1.0, "max": 2.0, "pairs": 3, "share_below_zero": 1 / 3}
    json.dumps(found, allow_nan=False)


def test_duplicates_and_contradictions() -> None:
    """A over B and B over A contradict each other; B won and lost for the cat, and so did A."""
    found, _ = figures(GROUPS)
    assert found["duplicates"] == {
        "images_in_several_pairs": 3,
        "chosen_and_rejected_for_one_prompt": 2,
        "contradictions": 1,
    }
    ranked, _ = figures([pair("x", A, B), pair("x", B, C), pair("y", C, A)])
    assert ranked["duplicates"]["contradictions"] == 0
    assert ranked["duplicates"]["chosen_and_rejected_for_one_prompt"] == 1


def test_an_image_without_a_header_makes_a_bad_row() -> None:
    found, report = figures([*GROUPS, pair("x", b"nothing", A)])
    assert (found["pairs"], found["bad"]) == (4, 1)
    assert "not an image file" in report.bad[0]
    assert found["bad_rows"] == report.bad


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (encode(Image.new("RGB", (1, 1))), "1x1 pixels, a placeholder"),
        (encode(Image.new("RGB", (2000, 3))), "2000x3 pixels"),
        (encode(Image.new("RGB", (2000, 30))), "over 16 times the other"),
        (encode(Image.new("1", (9000, 9000))), "limit is 64000000"),
    ],
)
def test_what_training_would_refuse_by_the_header_is_bad_here_too(image: bytes, says: str) -> None:
    broken = Group("b", Prompt("x"), [Candidate(A), Candidate(image)], source="a.parquet, row 7")
    found, report = figures([*GROUPS, broken])
    assert (found["pairs"], found["bad"]) == (4, 1)
    assert report.bad[0].startswith("a.parquet, row 7, rejected: the image has ")
    assert says in report.bad[0]
    with pytest.raises(ValueError, match=says):
        decode(image)


def test_tokens_are_counted_with_a_checkpoint() -> None:
    text = "a red circle above a blue square " * 4
    found, _ = figures([*GROUPS, pair(text, A, B)], tokenizers=load_tokenizers("shapes/sd"))
    tokens = found["caption_tokens"]["tokenizer"]
    assert tokens["limit"] == 14
    assert tokens["max"] == 28
    assert tokens["captions_over_limit"] == 1


def test_lines_say_the_same() -> None:
    found, _ = figures(GROUPS)
    text = "\n".join(stats_lines(found))
    for part in (
        "4 pairs",
        "2 distinct",
        "64x32: 3 (38%)",
        "PNG 6, JPEG 2",
        "1 contradictions",
        "62.5% smaller than 64",
    ):
        assert part in text
    assert "r -0.5 to 2, median 1 over 3 pairs, 33.3% below 0" in text
    empty, _ = figures([])
    assert len(list(stats_lines(empty))) == 2


def test_it_reads_what_is_on_disk(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [pair_row(group) for group in GROUPS], pair_schema(["r"]))
    report = ReadReport()
    tally = gather(locate(str(tmp_path)).read(report), report, {})
    found = summarise(tally, report, path=str(tmp_path), format="pairs", layout="parquet", resolution=64)
    expected, _ = figures(GROUPS)
    assert {key: found[key] for key in ("images", "duplicates", "score_gaps", "rows")} == {
        key: expected[key] for key in ("images", "duplicates", "score_gaps", "rows")
    }


def test_headers_agree_with_decoding(tmp_path: Path) -> None:
    image = decode(picture(4, 16)).resize((24, 16))
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    for kind in EXTENSIONS:
        file = tmp_path / f"x{EXTENSIONS[kind]}"
        image.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
        data = file.read_bytes()
        header = read_header(data)
        assert (header.kind, extension(data)) == (kind, file.suffix)
        assert (
            (header.width, header.height)
            == decode(data).size
            == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size
        )


@pytest.mark.parametrize("data", [b"", b"text", A[:10], C[:3]])
def test_what_is_no_image_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match="image"):
        read_header(data)
