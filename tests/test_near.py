"""Near-duplicate prompts and pictures: the joins against comparing every one with every other."""

from __future__ import annotations

import io
import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import picture

from mmpo.data.images import decode
from mmpo.data.near import GRID, MEAN_TOLERANCE, TOLERANCE, Looks, UnionFind, look, similar_sets, words
from mmpo.shapes.prompts import scenes
from mmpo.shapes.render import render

SETS = st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=7), max_size=14)
SIMILARITIES = st.sampled_from(["0.1", "0.3", "0.5", "0.75", "0.8", "0.9", "1"])


@given(SETS, SIMILARITIES)
@settings(max_examples=300, deadline=None)
def test_the_join_finds_what_comparing_all_finds(sets: list[frozenset[str]], similarity: str) -> None:
    threshold = Fraction(similarity)
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(sets), 2)
        if a and b and Fraction(len(a & b), len(a | b)) >= threshold
    }
    found = list(similar_sets(sets, threshold))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_the_threshold_itself_counts() -> None:
    """4 of 5 words shared is 0.8 exactly, which floating point would get wrong on some sizes."""
    pair = [frozenset("abcd"), frozenset("abcde")]
    assert list(similar_sets(pair, Fraction("0.8"))) == [(0, 1)]
    assert list(similar_sets(pair, Fraction("0.81"))) == []


@pytest.mark.parametrize("similarity", ["0", "-1", "1.5"])
def test_a_similarity_outside_its_range_is_refused(similarity: str) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        list(similar_sets([], Fraction(similarity)))


def test_most_prompts_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 prompts of 12 words: all pairs would be 12 million."""
    rng = random.Random(3)
    vocabulary = [f"w{number}" for number in range(3000)]
    compared = []

    class Watched(frozenset[str]):
        def __and__(self, other: object) -> frozenset[str]:
            compared.append(1)
            return super().__and__(other)  # type: ignore[operator]

    base = [Watched(rng.sample(vocabulary, 12)) for _ in range(5000)]
    copies = [Watched([*sorted(one)[1:], "extra"]) for one in base[:40]]
    found = list(similar_sets([*base, *copies], Fraction("0.8")))
    assert set(found) == {(i, 5000 + i) for i in range(40)}
    assert 40 <= len(compared) < 200_000


def test_words_ignore_case_order_punctuation_and_width() -> None:
    assert words("A red CAT, on (the:1.2) moon!") == words("moon the 1 2 on — red cat a")
    assert words("ｒｅｄ") == {"red"}
    assert words("赤い猫") == set("赤い猫")
    assert words("!!! ...") == frozenset()
    assert words("snake_case") == {"snake", "case"}


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_union_find_against_merging_sets_by_hand(joins: list[tuple[int, int]]) -> None:
    sets = UnionFind()
    for _ in range(20):
        sets.add()
    plain = [{i} for i in range(20)]
    for a, b in joins:
        assert sets.join(a, b) == (plain[a] is not plain[b])
        merged = plain[a] | plain[b]
        for member in merged:
            plain[member] = merged
    assert [sets.find(i) for i in range(20)] == [min(plain[i]) for i in range(20)]


def saved(image: Image.Image, kind: str, **options: int) -> Image.Image:
    """The image after a round through a file format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return decode(buffer.getvalue())


def looks_of(images: list[Image.Image]) -> list[list[int]]:
    """For every image the earlier ones that it repeats."""
    looks = Looks()
    found = []
    for number, image in enumerate(images):
        seen = look(image)
        found.append(sorted(looks.add(seen, number)) if seen is not None else [])
    return found


def test_a_copy_in_another_format_or_size_is_found() -> None:
    image = decode(picture(1, 256))
    copies = [saved(image, "JPEG", quality=90), image.resize((512, 512), Image.Resampling.LANCZOS)]
    assert looks_of([image, *copies]) == [[], [0], [0, 1]]


def test_pictures_of_one_layout_stay_apart() -> None:
    """Other colours, an other object, another seed of the same scene: all are pictures of their own."""
    drawn = [render(scene, seed) for scene in scenes("tune")[:40] for seed in (0, 1)]
    drawn += [decode(picture(number, 64)) for number in range(40)]
    turned = [Image.fromarray(np.asarray(image)[:, :, ::-1]) for image in drawn[80:]]
    assert not any(looks_of([*drawn, *turned]))


def test_a_picture_that_shows_nothing_repeats_none() -> None:
    """Filters that blacken images would else tie every prompt to every other."""
    assert look(Image.new("RGB", (64, 64))) is None
    assert look(Image.new("RGB", (64, 64), "white")) is None


def test_the_search_misses_no_neighbour() -> None:
    """Bins against comparing all, on looks that sit around the edges of bins."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 16, (12, 3, 3, 3)) * 16
    all_looks = []
    for number in range(240):
        block = np.kron(centres[number % 12], np.ones((GRID // 3, GRID // 3, 1), dtype=int))
        noise = rng.integers(-2, 3, block.shape) // rng.integers(1, 4)
        all_looks.append(np.clip(block + noise, 0, 255).astype(np.uint8))
    looks = Looks()
    found = {(before, now) for now, seen in enumerate(all_looks) for before in looks.add(seen, now)}
    gaps = [[np.abs(a.astype(int) - b) for b in all_looks] for a in all_looks]
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(240), 2)
        if gaps[i][j].max() <= TOLERANCE and gaps[i][j].mean() <= MEAN_TOLERANCE
    }
    assert found == expected
    assert 100 < len(expected) < 28_000
