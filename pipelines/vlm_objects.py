"""Objects that a text names, in a vocabulary with synonyms: the words of CHAIR."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IRREGULAR = {
    **{"men": "man", "women": "woman", "people": "person", "children": "child", "policemen": "policeman"},
    **{"firemen": "fireman", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "oxen": "ox"},
    **{"knives": "knife", "wolves": "wolf", "calves": "calf", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf"},
    **{"scarves": "scarf", "halves": "half", "lives": "life", "wives": "wife", "buses": "bus", "lenses": "lens"},
}
ANIMALS = (*("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub"),)
QUALIFIED = {"baby": ANIMALS, "adult": ANIMALS, "passenger": ("jet", "train")}
"""Words that name a person alone, and not before these."""
NO_OBJECTS = ("home plate",)
"""Two words that name none, though one of them does."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words for objects.

    Args:
        classes: word, or words with a blank between them -> the object's own name.
        words: single ones of them, whose plurals are known.
    """

    classes: Mapping[str, str]
    words: frozenset[str]

    def mentions(self, text: str) -> list[str]:
        """The objects that a text names, in order, each as often as it is named.

        Words in lower case and in the singular; two words that are one name count as one; a "baby" or "adult" before
        an animal and a "passenger" before a jet or train are no persons; where a toilet is named, a seat is no chair.

        References:
            Rohrbach et al., Object Hallucination in Image Captioning, arXiv 1809.02156, and its released code, whose
            singular forms come from another library.
        """
        words = list(self._joined([self._singular(word) for word in re.findall(r"[a-z0-9]+", text.lower())]))
        if "toilet" in words:
            words = [word for word in words if word != "seat"]
        return [self.classes[word] for word in words if word in self.classes]

    def _joined(self, words: Sequence[str]) -> Iterator[str]:
        at = 0
        while at < len(words):
            both = " ".join(words[at : at + 2])
            if both in self.classes or both in NO_OBJECTS:
                yield both
                at += 2
            elif at + 1 < len(words) and words[at + 1] in QUALIFIED.get(words[at], ()):
                yield words[at + 1]
                at += 2
            else:
                yield words[at]
                at += 1

    def _singular(self, word: str) -> str:
        return next((form for form in singulars(word) if form in self.words), word)


def read_vocabulary(path: Path) -> Vocabulary:
    """The words of a file: an object a line, its name first, then other words for it, with ", " between them.

    Raises:
        ValueError: nothing in it, or one word for two objects.
    """
    if not path.is_file():
        raise ValueError(f"--synonyms {path}: no such file; expected the synonyms.txt of CHAIR, or one of its layout")
    classes: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        words = [word.strip().lower() for word in line.split(",") if word.strip()]
        for word in words:
            before = classes.setdefault(word, words[0])
            if before != words[0]:
                raise ValueError(f"{path}, line {number}: '{word}' stands for {words[0]} and for {before}")
    if not classes:
        raise ValueError(f"--synonyms {path}: is empty; expected an object a line, such as: dog, puppy, hound")
    return vocabulary(classes)


def vocabulary(classes: Mapping[str, str]) -> Vocabulary:
    """Words for objects, by their names."""
    known = {*classes, *NO_OBJECTS, *QUALIFIED, *(word for words in QUALIFIED.values() for word in words)}
    return Vocabulary(classes, frozenset(part for name in known for part in name.split(" ")))


def singulars(word: str) -> Iterator[str]:
    """What a word may be the plural of, itself first; most likely ones before others."""
    yield word
    if word in IRREGULAR:
        yield IRREGULAR[word]
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("ves"):
        yield word[:-3] + "f"
        yield word[:-3] + "fe"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        yield word[:-1]


def counted(mentions: Sequence[str], truth: Collection[str]) -> dict[str, float]:
    """Sums of one text: mentions, those of nothing in the image, and what was found of what is there."""
    wrong = sum(name not in truth for name in mentions)
    return {
        "texts": 1,
        "naming": bool(mentions),
        "mentions": len(mentions),
        "wrong mentions": wrong,
        "wrong texts": bool(wrong),
        "truth": len(truth),
        "found": len(set(truth) & set(mentions)),
    }
