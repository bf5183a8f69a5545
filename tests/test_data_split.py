"""Splitting: what belongs together is on one side, shares are met, and the folder trains as it is."""

from __future__ import annotations

import itertools
import random
import resource
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_files import read
from PIL import Image
from tiny import picture

from mmpo.data import exports
from mmpo.data.encoded import EncodedRow
from mmpo.data.images import decode, encode
from mmpo.data.near import words
from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import read_done, write_shard
from mmpo.data.split import hold_out
from mmpo.records import Candidate, Group, Prompt, content_id
from pipelines.data_source import locate
from pipelines.data_split import assign, split_lines, split_pairs

SHARES = {"test": 0.2, "tune": 0.1}


def pair(number: int, text: str, *, key: str = "", images: Sequence[bytes] = ()) -> Group:
    """A pair with images of its own unless they are given."""
    own = [*images, picture(1000 + 2 * number), picture(1001 + 2 * number)][:2]
    return Group(content_id("s", number), Prompt(text, key), [Candidate(image, {"n": number}) for image in own])


def fillers(count: int, first: int = 100) -> list[Group]:
    """Pairs of prompts that have nothing in common."""
    return [pair(first + n, f"word{n}a word{n}b word{n}c") for n in range(count)]


def write(folder: Path, groups: Sequence[Group], rewards: Sequence[str] = ()) -> str:
    """One canonical shard."""
    write_shard(folder, 0, [pair_row(group) for group in groups], pair_schema(rewards))
    return str(folder)


def run(data: str, output: Path, *, seed: int = 0, similarity: str = "0.8", shares: dict[str, float] = SHARES) -> dict:
    """The summary of a split."""
    return split_pairs(locate(data), output, shares=shares, seed=seed, similarity=similarity)[0]


def sides_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Split and key by the group's id."""
    return {group.id: (group.prompt.split, group.prompt.key) for group in read(folder)[0]}


def jpeg(image: bytes, size: int) -> bytes:
    """The same picture in another format and size."""
    return encode(decode(image).resize((size, size), Image.Resampling.BICUBIC), lossless=False)


def noise(seed: int) -> list[bytes]:
    """Two images that do not compress."""
    rng = np.random.default_rng(seed)
    return [encode(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))) for _ in range(2)]


BIG = picture(7, 128)
TOGETHER = {
    "the same text": [pair(0, "a red cat"), pair(1, "A  red CAT")],
    "the same key": [pair(0, "a red cat", key="k"), pair(1, "something else entirely", key="k")],
    "nearly the same words": [pair(0, "one two three four five"), pair(1, "five, four three two (one) six")],
    "the same file": [pair(0, "a red cat", images=[BIG]), pair(1, "quite other words", images=[picture(5), BIG])],
    "the same picture": [pair(0, "a red cat", images=[BIG]), pair(1, "quite other words", images=[jpeg(BIG, 64)])],
    "a chain": [pair(0, "a b c d e"), pair(1, "a b c d e f"), pair(2, "other things", images=[BIG]),
                pair(3, "a b c d e f", images=[BIG])],
}  # fmt: skip
APART = {
    "other words": [pair(0, "a red cat on a mat"), pair(1, "a blue cat on a mat")],
    "pictures that show nothing": [
        pair(n, text, images=[encode(Image.new("RGB", (16, 16)))]) for n, text in enumerate(["a red cat", "a dog"])
    ],
}


@pytest.mark.parametrize("reason", TOGETHER)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_belongs_together_shares_a_key_and_a_side(tmp_path: Path, reason: str, seed: int) -> None:
    groups = TOGETHER[reason]
    run(write(tmp_path / "d", [*groups, *fillers(16)]), tmp_path / "out", seed=seed)
    sides = sides_of(tmp_path / "out")
    assert len({sides[group.id] for group in groups}) == 1
    assert len({key for _, key in sides.values()}) == 17


@pytest.mark.parametrize("reason", APART)
def test_what_does_not_belong_together_has_keys_of_its_own(tmp_path: Path, reason: str) -> None:
    groups = APART[reason]
    run(write(tmp_path / "d", [*groups, *fillers(16)]), tmp_path / "out")
    sides = sides_of(tmp_path / "out")
    assert len({sides[group.id][1] for group in groups}) == 2


def test_no_near_duplicate_is_on_two_sides(tmp_path: Path) -> None:
    """Over many prompts of few words, read off the output by comparing all."""
    rng = random.Random(1)
    groups = [pair(n, " ".join(rng.choices([f"w{m}" for m in range(40)], k=6))) for n in range(100)]
    groups += [pair(200 + n, f"{groups[n].prompt.text}, w{n}!") for n in range(40)]
    found = run(write(tmp_path / "d", groups), tmp_path / "out", similarity="0.75")
    rows = read(tmp_path / "out")[0]
    assert sorted(row.id for row in rows) == sorted(group.id for group in groups)
    assert len({row.prompt.split for row in rows}) == 3
    for a, b in itertools.combinations(rows, 2):
        one, other = words(a.prompt.text), words(b.prompt.text)
        if Fraction(len(one & other), len(one | other)) >= Fraction("0.75"):
            assert (a.prompt.split, a.prompt.key) == (b.prompt.split, b.prompt.key)
        if a.prompt.split != b.prompt.split:
            assert a.prompt.key != b.prompt.key
    assert sum(found["pairs"].values()) == 140
    assert found["joined"]["words"] >= 30


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_shares_are_met_as_closely_as_clusters_allow(sizes: list[int], seed: int) -> None:
    clusters = {f"c{n}": size for n, size in enumerate(sizes)}
    sides = assign(clusters, SHARES, seed)
    assert sides == assign(dict(reversed(clusters.items())), SHARES, seed)
    left = [size for name, size in clusters.items() if sides[name] == "train"]
    for side, share in SHARES.items():
        room = max(1, round(share * sum(sizes)))
        taken = sum(size for name, size in clusters.items() if sides[name] == side)
        assert taken <= room
        assert not left or room - taken < min(left)


def test_the_seed_decides_and_the_order_of_rows_does_not(tmp_path: Path) -> None:
    groups = fillers(40)
    a, b = write(tmp_path / "a", groups), write(tmp_path / "b", groups[::-1])
    for name, data, seed in (("1", a, 0), ("2", a, 0), ("3", b, 0), ("4", a, 1)):
        run(data, tmp_path / name, seed=seed)
    files = [(tmp_path / name / "shard-00000.parquet").read_bytes() for name in "12"]
    assert files[0] == files[1]
    assert sides_of(tmp_path / "1") == sides_of(tmp_path / "3")
    assert sides_of(tmp_path / "1") != sides_of(tmp_path / "4")


def test_training_holds_out_what_was_split_off(tmp_path: Path) -> None:
    run(write(tmp_path / "d", fillers(40)), tmp_path / "out", shares={"test": 0.1, "tune": 0.1})
    rows = [
        EncodedRow(group.id, group.prompt, tuple(c.image_hash for c in group.candidates), group.source)
        for group in read(tmp_path / "out")[0]
    ]
    train, held = hold_out(rows, 1000)
    assert len(train) == 32
    assert {row.prompt.split for row in held} == {"tune"}


def test_images_scores_ids_and_provenance_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_PER_SHARD", 7)
    groups = fillers(20)
    scored = [Group(g.id, g.prompt, g.candidates, scores={"r": [0.5, 0.25]}) for g in groups]
    run(write(tmp_path / "d", scored, ["r"]), tmp_path / "out")
    back = read(tmp_path / "out")[0]
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 3
    for before, after in zip(scored, back, strict=True):
        assert (after.id, after.prompt.text, after.scores) == (before.id, before.prompt.text, before.scores)
        assert [c.image for c in after.candidates] == [c.image for c in before.candidates]
        assert [dict(c.provenance) for c in after.candidates] == [dict(c.provenance) for c in before.candidates]
    assert read_done(tmp_path / "out") is not None


def test_one_large_cluster_is_warned_of(tmp_path: Path) -> None:
    chain = [pair(n, " ".join(f"w{m}" for m in range(n, n + 12))) for n in range(10)]
    found = run(write(tmp_path / "d", [*chain, *fillers(16)]), tmp_path / "out")
    assert found["largest"]["pairs"] == 10
    assert any("one cluster holds 38% of the pairs" in line and "--similarity" in line for line in split_lines(found))
    found = run(str(tmp_path / "d"), tmp_path / "out2", similarity="0.9")
    assert not any("warning" in line for line in split_lines(found))


def test_a_few_pairs_of_other_prompts_are_no_chain(tmp_path: Path) -> None:
    """Each of three clusters holds a third of the pairs; what is warned of is prompts that were joined."""
    found = run(write(tmp_path / "d", fillers(3)), tmp_path / "out", shares={"test": 0.3})
    assert (found["largest"]["pairs"], found["largest"]["prompts"]) == (1, 1)
    assert not any("warning" in line for line in split_lines(found))
    one_prompt = [pair(n, "the same prompt") for n in range(8)]
    found = run(write(tmp_path / "e", [*one_prompt, *fillers(8)]), tmp_path / "out2")
    assert (found["largest"]["pairs"], found["largest"]["prompts"]) == (8, 1)
    assert not any("warning" in line for line in split_lines(found))


def test_what_cannot_help_is_not_advised(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"at least as many clusters as sides, 2 \(train, test\): add pairs of"
    ) as told:
        run(write(tmp_path / "one", fillers(1)), tmp_path / "out", shares={"test": 0.1})
    assert "--similarity" not in str(told.value)
    joined = [pair(0, "one two three four five"), pair(1, "five four three two one six")]
    with pytest.raises(ValueError, match=r"sides, 2 \(train, test\): raise --similarity or add pairs"):
        run(write(tmp_path / "two", joined), tmp_path / "out", shares={"test": 0.1})
    groups = [
        *(pair(n, "the same prompt") for n in range(9)),
        *fillers(1),
        *(pair(50 + n, "the other") for n in range(9)),
    ]
    with pytest.raises(ValueError, match=r"Give other shares$"):
        run(write(tmp_path / "three", groups), tmp_path / "out", shares={"test": 0.02, "tune": 0.02})


def test_a_side_that_would_stay_empty_is_an_error(tmp_path: Path) -> None:
    data = write(tmp_path / "d", [pair(n, "the same prompt") for n in range(10)])
    with pytest.raises(ValueError, match="no pair is left for 'test': 10 pairs are in 1 clusters"):
        run(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"test": 0.0, "tune": 0.0}}, "above 0"),
        ({"shares": {"test": 0.7, "tune": 0.3}}, "leave something to train on"),
        ({"shares": {"test": 1.5}}, "--test 1.5"),
        ({"shares": {"test": float("nan")}}, "--test nan"),
        ({"similarity": "much"}, "--similarity much"),
        ({"similarity": "0"}, "--similarity 0"),
        ({"similarity": "nan"}, "--similarity nan"),
        ({"similarity": "1/0"}, "--similarity 1/0"),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(str(tmp_path / "nothing"), tmp_path / "out", **options)


def test_unreadable_images_are_left_out_and_named(tmp_path: Path) -> None:
    broken = picture(1, 64)[:200]
    data = write(tmp_path / "d", [*fillers(12), pair(0, "a red cat", images=[broken])])
    _, report = split_pairs(locate(data), tmp_path / "out", shares=SHARES, seed=0, similarity="0.8")
    assert (report.counts["pairs"], report.counts["bad"]) == (12, 1)
    assert "row 12, chosen: the image is corrupt" in report.bad[0]
    assert len(read(tmp_path / "out")[0]) == 12


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A real limit on the size of files stands in for a full disk."""
    data = write(tmp_path / "d", [pair(n, f"w{n} x{n} y{n}", images=noise(n)) for n in range(20)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            run(data, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(caught.value.filename).is_relative_to(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
