"""Which prompts and which pictures are nearly the same, without comparing every one with every other."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

GRID = 12  # a look has so many cells a side
TOLERANCE = 4  # of 255: no cell of two near-identical pictures differs by more
MEAN_TOLERANCE = 1.0
FLAT = 8  # a picture whose cells differ by less shows nothing (black, placeholder)
_BIN = 16

# a word is a run of letters and digits; scripts written without spaces count by character
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿]+")


class UnionFind:
    """Disjoint sets of 0, 1, 2, ...: `add` makes a new one, `join` merges two."""

    def __init__(self) -> None:
        self._parents: list[int] = []

    def __len__(self) -> int:
        return len(self._parents)

    def add(self) -> int:
        """A new element, in a set of its own."""
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def find(self, item: int) -> int:
        """The element that stands for the item's set: the smallest in it."""
        parents = self._parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def join(self, first: int, second: int) -> bool:
        """Merges two sets; whether they were two."""
        first, second = sorted((self.find(first), self.find(second)))
        self._parents[second] = first
        return first != second


def words(text: str) -> frozenset[str]:
    """The set of words of a prompt: case, width, punctuation, order and repetition do not count."""
    return frozenset(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def similar_sets(sets: Sequence[frozenset[str]], similarity: Fraction) -> Iterator[tuple[int, int]]:
    """Index pairs of non-empty sets whose Jaccard similarity |a ∩ b| / |a ∪ b| is at least `similarity`, exactly.

    Two such sets share one of their rarest words: with the words in one order, rare first, the first
    |a| − ⌈s·|a|⌉ + 1 of a meet the like of b. So only sets that meet there are compared (a prefix-filter join).

    Args:
        sets: N sets.
        similarity: s in (0, 1].
    References:
        Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", WWW 2007.
    """
    top, bottom = similarity.numerator, similarity.denominator
    if not 0 < top <= bottom:
        raise ValueError(f"similarity: expected above 0 and at most 1, got {float(similarity):g}")
    count = Counter(itertools.chain.from_iterable(sets))
    rare_first = {word: at for at, word in enumerate(sorted(count, key=lambda word: (count[word], word)))}
    order = sorted((i for i, words_of in enumerate(sets) if words_of), key=lambda i: (len(sets[i]), i))
    seen: dict[str, list[int]] = {}
    for i in order:
        size = len(sets[i])
        least = math.ceil(similarity * size)
        candidates = set()
        for word in sorted(sets[i], key=rare_first.__getitem__)[: size - least + 1]:
            posted = seen.setdefault(word, [])
            start = next((at for at, j in enumerate(posted) if len(sets[j]) >= least), len(posted))
            del posted[:start]  # too small for this one and for all that follow, which are no smaller
            candidates.update(posted)
            posted.append(i)
        for j in sorted(candidates):
            if len(sets[i] & sets[j]) * (top + bottom) >= top * (size + len(sets[j])):
                yield (j, i) if j < i else (i, j)


def look(image: Image.Image) -> np.ndarray | None:
    """The picture on `GRID` x `GRID` cells, uint8 [GRID, GRID, 3]; None where it shows nothing, such as all black."""
    small = np.asarray(image.convert("RGB").resize((GRID, GRID), Image.Resampling.BILINEAR))
    return small if int((small.max(axis=(0, 1)) - small.min(axis=(0, 1))).max()) >= FLAT else None


class Looks:
    """Finds pictures that are the same but for their encoding or size (a PNG and its JPEG, a copy at half the side).

    Not a perceptual hash: every colour of the reduced pictures must agree within `TOLERANCE` of 255, so two pictures
    of one layout with other colours or other objects stay apart. A difference smaller than a cell may be missed, and
    so may a copy that was spoilt by strong compression. Memory: `GRID`² · 3 bytes a picture.
    """

    def __init__(self) -> None:
        self._looks: list[tuple[np.ndarray, int]] = []
        self._bins: dict[tuple[int, ...], list[int]] = {}

    def add(self, seen: np.ndarray, item: int) -> list[int]:
        """Files a look under `item`; returns the items of the near-identical looks added before."""
        coarse = seen.reshape(3, GRID // 3, 3, -1).mean(axis=(1, 3), dtype=np.float64).ravel()
        ranges = [
            range(int((value - TOLERANCE) // _BIN), int((value + TOLERANCE) // _BIN) + 1) for value in coarse.tolist()
        ]  # averages of cells within the tolerance are within it too, so no neighbour is missed
        wide = seen.astype(np.int16)
        found = []
        for place in itertools.product(*ranges):
            for at in self._bins.get(place, ()):
                other, owner = self._looks[at]
                gap = np.abs(wide - other)
                if gap.max() <= TOLERANCE and gap.mean() <= MEAN_TOLERANCE:
                    found.append(owner)
        home = tuple(int(value // _BIN) for value in coarse.tolist())
        self._bins.setdefault(home, []).append(len(self._looks))
        self._looks.append((seen, item))
        return found
