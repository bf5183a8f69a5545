"""The page of random pairs: what it shows is what training sees, and nothing in the data can act on it."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import make_groups, picture

from mmpo.data.images import decode, encode, to_pixels
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.records import Candidate, Group, Prompt, content_id
from pipelines import data_inspect, data_progress
from pipelines.data_card import Card, card, view
from pipelines.data_inspect import Inspection, inspect_pairs, page_html, reservoir, summary_lines
from pipelines.data_source import locate
from pipelines.data_tokens import cuts, load_tokenizers

EVIL = "<script>alert(1)</script> \"quoted\" 'single' & <img src=x onerror=alert(2)>"


def sized(seed: int, width: int, height: int) -> bytes:
    """PNG bytes of this size."""
    return encode(decode(picture(seed, 32)).resize((width, height)))


def group(
    text: str = "a red cat",
    chosen: bytes = b"",
    rejected: bytes = b"",
    scores: dict[str, list[float | None]] | None = None,
) -> Group:
    """A pair with provenance."""
    images = [chosen or sized(1, 64, 64), rejected or sized(2, 64, 64)]
    made = {"model": EVIL, "seed": 3, "settings": {"steps": 20}}
    return Group(
        content_id(text), Prompt(text, "a key", "tune"), [Candidate(i, made) for i in images], scores=scores or {}
    )


def inspected(
    tmp_path: Path, groups: list[Group], *, model: str = "", rows: int = 12, resolution: int = 64
) -> Inspection:
    """A page's content, of groups written to a shard."""
    names = sorted({name for one in groups for name in one.scores})
    write_shard(tmp_path / "d", 0, [pair_row(one) for one in groups], pair_schema(names))
    tokenizers = load_tokenizers(model) if model else {}
    source = locate(str(tmp_path / "d"))
    return inspect_pairs(source, rows=rows, seed=0, resolution=resolution, tokenizers=tokenizers)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 200), (20, 20)])
def test_the_view_is_what_training_gets(size: tuple[int, int]) -> None:
    data = sized(3, *size)
    seen = np.asarray(view(data, 48).image, dtype=np.float32) / 127.5 - 1
    assert np.allclose(seen.transpose(2, 0, 1), to_pixels(decode(data), 48).numpy(), atol=1e-6)


def test_the_page_holds_those_pixels(tmp_path: Path) -> None:
    """Small pictures are lossless on the page, so that they can be compared."""
    chosen, rejected = sized(3, 96, 64), sized(4, 64, 96)
    html = page_html(inspected(tmp_path, [group(chosen=chosen, rejected=rejected)], resolution=48))
    found = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", html)]
    assert len(found) == 2
    for png, data in zip(found, (chosen, rejected), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(view(data, 48).image))


def test_what_is_cropped_enlarged_or_twice_the_same_is_flagged() -> None:
    wide, slightly, small = sized(1, 96, 64), sized(2, 70, 64), sized(3, 32, 32)
    shown = card(group(chosen=wide, rejected=slightly), 0, 64, {}, 256)
    assert shown.flags == ("much cropped away",)
    assert "17% cut off left, 17% right" in shown.html
    assert "4% cut off left, 4% right" in shown.html
    tall = card(group(chosen=sized(1, 64, 96), rejected=small), 0, 64, {}, 256)
    assert tall.flags == ("much cropped away", "enlarged")
    assert "17% cut off top, 17% bottom" in tall.html
    assert "enlarged 2×" in tall.html
    same = card(group(chosen=small, rejected=small), 0, 32, {}, 256)
    assert same.flags == ("identical images",)
    recoded = encode(decode(small))
    assert card(group(chosen=small, rejected=recoded + b" "), 0, 32, {}, 256).flags == ("identical images",)
    assert card(group(), 0, 64, {}, 256).flags == ()


def test_an_unreadable_image_is_shown_as_such(tmp_path: Path) -> None:
    found = inspected(tmp_path, [group(chosen=picture(1, 64)[:300])])
    assert found.flags == Counter({"unreadable image": 1})
    assert "cannot be read: the image is corrupt" in page_html(found)


def test_scores_and_provenance_are_shown(tmp_path: Path) -> None:
    scores: dict[str, list[float | None]] = {"clip": [0.25, 0.5], "none": [None, 1.0]}
    found = inspected(tmp_path, [group(scores=scores)])
    html = page_html(found)
    assert found.flags == Counter({"a score prefers the rejected": 1})
    for part in ("0.25", "-0.25", "a key", "tune", "seed: 3", "steps", "shard-00000.parquet, row 0"):
        assert part in html


def test_what_an_encoder_does_not_read_is_struck_out(tmp_path: Path) -> None:
    """The tokenizer of the built-in checkpoint reads 14 tokens; a word of the grammar is one."""
    text = "a red circle above a blue square " * 3
    found = inspected(tmp_path, [group(text.strip()), group("a red circle")], model="shapes/sd")
    html = page_html(found)
    kept = ("a red circle above a blue square " * 2).strip()
    assert f"{kept}<s> {'a red circle above a blue square'}</s>" in html
    assert "21 tokens of at most 14" in html
    assert "the last 7 are not read" in html
    assert html.count("<s>") == 1
    assert found.flags == Counter({"caption cut": 1})


def test_cuts_agree_with_the_tokenizers_own_truncation() -> None:
    tokenizers = load_tokenizers("shapes/sd")
    tokenizer = tokenizers["tokenizer"]
    for text in ("a red circle", "Ünknown wörds, 🙂 and more of them, all the way to the end", "a " * 40, "  spaces  "):
        (cut,) = cuts(text, tokenizers)
        inside = tokenizer(text, truncation=True)["input_ids"]
        assert tokenizer(text[: cut.end])["input_ids"] == inside
        assert cut.lost == len(tokenizer(text, verbose=False)["input_ids"]) - len(inside)


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer in it"):
        load_tokenizers(str(tmp_path))
    with pytest.raises(ValueError, match="no such folder"):
        load_tokenizers("some/checkpoint")


def test_nothing_in_the_data_becomes_markup(tmp_path: Path) -> None:
    html = page_html(inspected(tmp_path, [group(EVIL), group(EVIL + "x" * 2000)], model="shapes/sd"))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert re.search(r"\son\w+=", re.sub(r"&lt;.*?&gt;", "", html)) is None
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)


def test_the_page_counts_what_was_read_and_left_out(tmp_path: Path) -> None:
    groups = [group(f"prompt {n % 3}") for n in range(9)]
    broken = Group("b", Prompt("  "), groups[0].candidates)
    found = inspected(tmp_path, [*groups, broken], rows=4)
    assert (len(found.cards), found.prompts, found.report.counts["bad"]) == (4, 3, 1)
    assert list(found.cards) == sorted(found.cards)
    html = page_html(found)
    assert html.count("<article>") == 4
    assert html.count('loading="lazy"') == 8
    assert "content-visibility: auto" in html
    assert "row 9: column &#x27;prompt&#x27; is empty" in html
    assert "10 rows, 9 pairs of 3 distinct prompts" in next(summary_lines(found))


def test_no_pairs_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pair can be read from 1 rows .*prompt' is empty"):
        inspected(tmp_path, [Group("b", Prompt(" "), group().candidates)])


def test_the_sample_is_fair_seeded_and_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = make_groups(10)
    uses: Counter[int] = Counter()
    for seed in range(600):
        uses.update(list(reservoir(groups, 3, seed, lambda n, one: Card("", ()))))
    assert all(120 < uses[n] < 240 for n in range(10))
    drawn = []
    kept = reservoir(groups, 20, 0, lambda n, one: Card(str(drawn.append(n)), ()))
    assert list(kept) == drawn == list(range(10))
    monkeypatch.setattr(data_inspect, "KEPT_BYTES", 1)  # memory runs short: each is drawn as it comes
    short = [*reservoir(groups, 3, 5, lambda n, one: Card("", ()))]
    monkeypatch.undo()
    assert short == [*reservoir(groups, 3, 5, lambda n, one: Card("", ()))]
    drawn.clear()
    reservoir(groups, 3, 5, lambda n, one: Card(str(drawn.append(n)), ()))
    assert drawn == short  # none that was not kept
    first, again = ([*reservoir(groups, 3, 5, lambda n, one: Card("", ()))] for _ in range(2))
    assert first == again


def test_what_takes_long_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inspected(tmp_path, [group(f"prompt {n}") for n in range(4)], rows=3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(data_progress, "EVERY", 0.0)
    inspected(tmp_path, [group(f"prompt {n}") for n in range(4)], rows=3)
    said = capsys.readouterr()
    assert "2 of 4 rows read\n" in said.err
    assert "2 of 3 pairs drawn\n" in said.err
    assert said.out == ""
