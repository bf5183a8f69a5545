"""AMBER: descriptions against what is in an image, and yes/no questions of existence, attributes and relations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.vlm_intervals import Counts, Measure, Tally, Unit, mean, ratio, share
from pipelines.vlm_items import Item, read_object
from pipelines.vlm_objects import singulars
from pipelines.vlm_yes_no import exact_answer

Nouns = Callable[[str], Sequence[str]]
Similar = Callable[[str, str], bool]
KINDS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "state"),
    "discriminative-attribute-number": ("attribute", "number"),
    "discriminative-attribute-action": ("attribute", "action"),
}
"""The annotation's type -> the parts that it counts in; every other discriminative one is a relation."""
PARTS = ("existence", "attribute", "state", "number", "action", "relation")
EXPECTED = "AMBER's folder data: annotations.json, relation.json, safe_words.txt, query/*.json"


@dataclass(frozen=True, slots=True)
class Words:
    """AMBER's words.

    Args:
        related: a word -> words that mean or imply the same (relation.json).
        safe: words that are never wrong (safe_words.txt).
        nouns: a description's nouns in the singular; by default its words that are in the vocabulary.
        similar: whether two words mean the same; by default none do but equal ones.
    """

    related: Mapping[str, Sequence[str]]
    safe: frozenset[str]
    nouns: Nouns | None = None
    similar: Similar | None = None

    def of(self, text: str) -> list[str]:
        """The nouns of a description that are in the vocabulary, in order."""
        known = {*self.related, *(word for words in self.related.values() for word in words)}
        if self.nouns is not None:
            return [noun for noun in self.nouns(text) if noun in known]
        found = (next((form for form in singulars(word) if form in known), None) for word in _words(text))
        return [noun for noun in found if noun is not None]


def read_amber(paths: Sequence[Path]) -> list[Item]:
    """The questions of AMBER's data folder with their annotations.

    Raises:
        ValueError: a file is missing, or a question has no annotation.
    """
    (folder,) = paths if len(paths) == 1 else (paths[0],)
    if len(paths) > 1 or not folder.is_dir():
        raise ValueError(f"--questions {folder}: expected one folder, {EXPECTED}")
    truths = {str(one["id"]): one for one in read_object(folder / "annotations.json")}
    asked: dict[str, Mapping[str, Any]] = {}
    files = sorted((folder / "query").glob("*.json"))
    for file in files:
        asked |= {str(one["id"]): one for one in read_object(file)}
    if not asked:
        raise ValueError(f"--questions {folder}: no questions in query/*.json; expected {EXPECTED}")
    items = []
    for name, query in sorted(asked.items(), key=lambda pair: int(pair[0])):
        truth = truths.get(name)
        if truth is None:
            raise ValueError(f"{folder}: question {name} has no annotation in annotations.json")
        group = "generative" if truth["type"] == "generative" else "discriminative"
        items.append(Item(name, str(query["query"]), str(query["image"]), truth, (), group))
    return items


def read_words(folder: Path) -> Words:
    """The words of AMBER's data folder."""
    safe = folder / "safe_words.txt"
    if not safe.is_file():
        raise ValueError(f"{safe}: no such file; expected {EXPECTED}")
    lines = [line.strip() for line in safe.read_text(encoding="utf-8").splitlines()]
    return Words(read_object(folder / "relation.json"), frozenset(line for line in lines if line))


def score_amber(items: Sequence[Item], texts: Mapping[str, str], words: Words) -> dict[str, Tally]:
    """Tallies of the descriptions, of all yes/no questions and of each kind of them, and AMBER's own score.

    Descriptions: CHAIR, unsupported nouns among all; Cover, what was named of what is there; Hal, descriptions with an
    unsupported noun; Cog, named things that people imagine there. Yes/no: the positive class is No, and an answer
    counts only where it is exactly Yes or No. The score is (100 − CHAIR + F1) / 2. F1 is exact; the authors' script
    rounds precision and recall to a tenth of a percent before, and adds 1e-4 (1e-3 for existence) to their sum.

    References:
        Wang et al., AMBER: An LLM-free Multi-dimensional Benchmark for MLLMs Hallucination Evaluation,
        arXiv 2311.07397, and its inference.py.
    """
    units: dict[str, list[Unit]] = {}
    for item in items:
        text = texts.get(item.id)
        if text is None:
            continue
        if item.group == "generative":
            units.setdefault("descriptions", []).append(Unit(item.image, described(text, item.truth, words)))
            continue
        unit = Unit(item.image, _answered(text, item.truth["truth"]))
        for part in ("yes/no", *KINDS.get(item.truth["type"], ("relation",))):
            units.setdefault(part, []).append(unit)
    order = [name for name in ("descriptions", "yes/no", *PARTS) if name in units]
    found = {name: Tally(units[name], DESCRIBED if name == "descriptions" else ANSWERED) for name in order}
    if "descriptions" in units and "yes/no" in units:
        found["AMBER"] = Tally([*units["descriptions"], *units["yes/no"]], {"score": Measure(_score, "points")})
    return found


def described(text: str, truth: Mapping[str, Any], words: Words) -> dict[str, float]:
    """Counts of one description.

    A noun that is in the truth, or related to it, covers the first of the truth's words that it fits. Of the others one
    that is similar to such a word is supported too; the rest is unsupported, but for safe words.
    """
    there, imagined = _with_related(truth["truth"], words), _with_related(truth["hallu"], words)
    nouns = words.of(text)
    covered, named, wrong = set(), set(), 0
    for noun in nouns:
        if noun in words.safe:
            continue
        exact = _first(noun, there)
        if exact is not None:
            covered.add(exact)
            continue
        found = _first(noun, imagined)
        alike = _first(noun, imagined, words.similar)
        named |= {place for place in (found, alike) if place is not None}
        supported = _first(noun, there, words.similar)
        if supported is None:
            wrong += 1
        else:
            covered.add(supported)
    return {
        "texts": 1.0,
        "nouns": float(len(nouns)),
        "wrong": float(wrong),
        "wrong texts": float(wrong > 0),
        "truth": float(len(truth["truth"])),
        "covered": float(len(covered)),
        "imagined": float(len(truth["hallu"])),
        "named": float(len(named)),
        "words": float(len(text.split())),
    }


def _with_related(names: Sequence[str], words: Words) -> list[tuple[str, int]]:
    """(word, which of the names it stands for): related words of each name first, then the names."""
    related = [(word, place) for place, name in enumerate(names) for word in words.related.get(name, ())]
    return related + [(name, place) for place, name in enumerate(names)]


def _first(noun: str, words: Sequence[tuple[str, int]], similar: Similar | None = None) -> int | None:
    same = similar or (lambda one, other: one == other)
    return next((place for word, place in words if same(noun, word)), None)


def _answered(text: str, truth: str) -> dict[str, float]:
    said = exact_answer(text)
    counts = {"n": 1, "correct": said == truth, "said no": said == "no", "true no": truth == "no"}
    counts |= {"right no": said == truth == "no", "unclear": said == "other", "answer words": len(text.split())}
    return {name: float(value) for name, value in counts.items()}


def _f1(counts: Counts) -> NDArray[np.float64]:
    return 100 * ratio(2 * counts["right no"], counts["said no"] + counts["true no"])


def _score(counts: Counts) -> NDArray[np.float64]:
    return (100 - 100 * ratio(counts["wrong"], counts["nouns"]) + _f1(counts)) / 2


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())


DESCRIBED: Mapping[str, Measure] = {
    "CHAIR": Measure(share("wrong", "nouns"), higher=False),
    "Cover": Measure(share("covered", "truth")),
    "Hal": Measure(share("wrong texts", "texts"), higher=False),
    "Cog": Measure(share("named", "imagined"), higher=False),
    "words": Measure(mean("words", "texts"), "words", None),
}
ANSWERED: Mapping[str, Measure] = {
    "accuracy": Measure(share("correct", "n")),
    "precision": Measure(share("right no", "said no")),
    "recall": Measure(share("right no", "true no")),
    "f1": Measure(_f1),
    "neither Yes nor No": Measure(share("unclear", "n"), higher=False),
    "words": Measure(mean("answer words", "n"), "words", None),
}
