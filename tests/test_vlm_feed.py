"""Rows on their way to a vision-language run: bad ones are named and counted, or fatal; rejected images are made."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vlm_rows import pair, png, vlm_of
from vlm_runs import recipe_of, rows_at

from mmpo.data.images import decode
from mmpo.data.negative_images import with_negative_images
from mmpo.data.readers import ReadReport
from mmpo.vlm_recipe import VlmMethod
from pipelines.build_vlm import encoder_of
from pipelines.train_vlm import train_vlm
from pipelines.vlm_feed import VlmFeed, read_pairs, vlm_feed


def feed_of(data: Path, *changes: str) -> tuple[VlmFeed, list[str]]:
    """The rows of a recipe over the tiny LLaVA, and what is said of them."""
    recipe = recipe_of("llava", data, data.parent / "run", *changes)
    said: list[str] = []
    return vlm_feed(recipe, encoder_of(recipe, vlm_of("llava")), said.append), said


GOOD = {
    "prompt": "What is it?",
    "images": ["red.png"],
    "chosen": "Red",
    "rejected": "Blue",
    "rejected_images": ["blue.png"],
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "broken image": ({"images": ["broken.png"]}, "broken_image"),
    "image that is not there": ({"images": ["nowhere.png"]}, "nowhere.png"),
    "empty answer": ({"chosen": " "}, "chosen"),
    "too long": ({"chosen": "x" * 200}, "too_long"),
    "mark of the model": ({"rejected": "a </s> b"}, "special_token"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_counted_and_left_out_or_fatal(tmp_path: Path, name: str) -> None:
    change, word = BAD[name]
    data = rows_at(tmp_path / "rows", 4, more=[{**GOOD, **change}])
    (data.parent / "broken.png").write_bytes(png("red")[:60])
    feed, said = feed_of(data, "method.loss=rdpo", "data.max_length=120")
    assert len(feed.train) == 4
    assert any(word in line for line in said), said
    assert any("left out of 5 rows: 1 bad" in line for line in said), said
    with pytest.raises(ValueError, match=r"rows\.jsonl"):
        feed_of(data, "method.loss=rdpo", "data.max_length=120", "data.on_bad_row=error")


def test_rows_of_no_two_and_one_sided_images_are_trained_on_and_rows_without_a_branch_are_counted(
    tmp_path: Path,
) -> None:
    odd = [
        {"prompt": "Hello?", "images": [], "chosen": "Hi", "rejected": "No"},
        {**GOOD, "images": ["red.png", "green.png"], "rejected_images": ["blue.png", "black.png"]},
        {key: value for key, value in GOOD.items() if key != "rejected_images"},
    ]
    feed, said = feed_of(rows_at(tmp_path / "rows", 2, more=odd), "method.loss=rdpo")
    assert len(feed.train) == 5
    assert "2 of 5 rows have no visual branch; terms over it add 0 for them" in said
    batch = feed.train.answers([0, 1, 2, 3, 4])
    assert batch.branches["visual"].rows.tolist() == [0, 1, 3]
    assert [len(shown) for shown in batch.branches["chosen"].images] == [1, 1, 0, 2, 1]


def test_a_method_whose_branch_no_row_has_says_so_and_made_images_mend_it(tmp_path: Path) -> None:
    data = rows_at(tmp_path / "rows", 4, rejected_images=False)
    with pytest.raises(ValueError, match=r"rdpo reads the branch visual, and no row.*negative_image"):
        feed_of(data, "method.loss=rdpo")
    feed, _ = feed_of(data, "method.loss=rdpo", "method.negative_image=random")
    shown = feed.train.answers([0, 1, 2, 3]).branches
    assert all(own != other for own, other in zip(shown["chosen"].images, shown["visual"].images, strict=True))


@pytest.mark.parametrize("kind", ["crop", "noise", "black"])
def test_a_made_image_depends_on_the_row_and_the_seed_alone(kind: str) -> None:
    gradient = np.arange(48 * 40 * 3, dtype=np.uint32).reshape(40, 48, 3) % 251
    file = io.BytesIO()
    Image.fromarray(gradient.astype(np.uint8)).save(file, "PNG")
    rows = [pair(number, images=(file.getvalue(),)) for number in range(2)]
    one, again = (with_negative_images(rows[0], kind, seed=3) for _ in range(2))
    assert one.rejected_images == again.rejected_images
    assert one.rejected_images is not None
    assert decode(one.rejected_images[0]).size == (48, 40)
    assert one.rejected_images[0] != file.getvalue()
    others = [with_negative_images(rows[1], kind, seed=3), with_negative_images(rows[0], kind, seed=4)]
    assert all((other.rejected_images == one.rejected_images) == (kind == "black") for other in others)


def test_an_image_of_many_rows_is_in_memory_once(tmp_path: Path) -> None:
    more = [{**GOOD, "prompt": f"number {n}"} for n in range(5)]
    recipe = recipe_of("llava", rows_at(tmp_path / "rows", 2, more=more), tmp_path / "run")
    pairs = list(read_pairs(recipe, ReadReport()))
    shown = [image for pair in pairs for image in (*pair.images, *(pair.rejected_images or ()))]
    assert len(shown) == 14
    assert len({id(image) for image in shown}) == len(set(shown)) == 4


def test_a_model_is_tried_on_short_rows(tmp_path: Path) -> None:
    """With all logits of all positions, which a long row of a large vocabulary has no memory for."""
    more = [{**GOOD, "prompt": f"number {n}", "chosen": "x" * (90 - 20 * (n % 4))} for n in range(8)]
    texts = [{"prompt": "Hello?", "images": [], "chosen": "Hi", "rejected": "No"}]
    feed, _ = feed_of(rows_at(tmp_path / "rows", 0, more=[*more, *texts]), "method.loss=rdpo")
    batch = feed.train.answers(feed.sample)
    assert int(batch.branches["chosen"].lengths.max()) < 75
    assert {len(images) for images in batch.branches["chosen"].images} == {0, 1}
    assert len(feed.sample) == 3


def test_a_made_image_is_written_fast() -> None:
    """PNG of a photo took seconds a row and step; what is made is read at once and kept nowhere."""
    made = with_negative_images(pair(images=(png("red"),)), "noise", seed=0).rejected_images
    assert made is not None
    assert made[0][:2] == b"BM"


def test_another_rows_broken_image_costs_no_good_row(tmp_path: Path) -> None:
    broken = [{**GOOD, "prompt": f"number {n}", "images": [f"broken{n}.png"]} for n in range(24)]
    data = rows_at(tmp_path / "rows", 6, rejected_images=False, more=broken)
    for number in range(24):
        (data.parent / f"broken{number}.png").write_bytes(png("red", (40 + number, 30))[:60])
    feed, said = feed_of(data, "method.loss=rdpo", "method.negative_image=random")
    assert len(feed.train) == 6, said
    assert len(feed.train.answers(range(6)).branches["visual"].rows) == 6


def test_segments_are_told_by_the_models_own_tokens(tmp_path: Path) -> None:
    """As the source does; by words none of "my", "is red" would be a match of three."""
    data = rows_at(tmp_path / "rows", 0, more=[{**GOOD, "chosen": "my cat is red", "rejected": "my dog is red"}])
    feed, _ = feed_of(data, "method.loss=dpo", "method.segment_weight=5")
    chosen = feed.train.answers([0]).branches["chosen"]
    assert chosen.weights[chosen.scored].tolist() == [1] * 3 + [5] * 3 + [1] * 8


def test_methods_are_their_terms_and_options_go_to_those_that_have_them() -> None:
    method = VlmMethod.model_validate({"loss": "mdpo", "beta": 0.2, "delta": 0.5})
    assert [(part.loss, part.branches) for part in method.parts] == [
        ("dpo", ("chosen", "rejected")),
        ("dpo", ("chosen", "visual")),
        ("anchor", ("chosen",)),
    ]
    assert [part.options for part in method.parts] == [{"beta": 0.2}, {"beta": 0.2}, {"beta": 0.2, "delta": 0.5}]
    for wrong, word in (
        ({"loss": "rdpoo"}, "rdpo"),
        ({"loss": "rdpo", "delta": 1.0}, "delta"),
        ({"loss": "rank_dpo"}, "takes lists"),
    ):
        with pytest.raises(ValueError, match=word):
            VlmMethod.model_validate(wrong)
    with pytest.raises(ValueError, match="visual"):
        VlmMethod.model_validate({"terms": [{"loss": "dpo", "rejected": "visuall"}]})


def test_rows_that_are_grouped_by_length_are_so_in_every_forward(tmp_path: Path) -> None:
    more = [{**GOOD, "prompt": f"number {number}", "chosen": "x" * (1 + 20 * (number % 2))} for number in range(16)]
    feed, _ = feed_of(
        rows_at(tmp_path / "rows", 0, more=more), "method.loss=dpo", "data.group_by_length=true", "train.batch_size=2"
    )
    lengths = [int(feed.train.answers([at]).branches["chosen"].lengths[0]) for at in range(16)]
    assert len(set(feed.train.sizes)) == 2
    assert max(n for n, size in zip(lengths, feed.train.sizes, strict=True) if size == 0) <= min(
        n for n, size in zip(lengths, feed.train.sizes, strict=True) if size == 1
    )
    assert json.loads((tmp_path / "rows" / "rows.jsonl").read_text().splitlines()[0])["images"]


def test_data_that_is_not_there_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    recipe = recipe_of("llava", tmp_path / "nowhere.json", tmp_path / "run", "model.path=no-such/model")
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        train_vlm(recipe)
