"""The benchmarks of vision-language models: how each one's own files are read, and what it is scored by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpo.suggest import one_of
from pipelines.vlm_amber import read_amber, read_words, score_amber
from pipelines.vlm_chair import read_chair, score_chair
from pipelines.vlm_hallusion import read_hallusion, score_hallusion
from pipelines.vlm_intervals import Tally
from pipelines.vlm_items import Item
from pipelines.vlm_judge import Judge
from pipelines.vlm_mme import read_mme, score_mme
from pipelines.vlm_mmhal import read_mmhal, score_mmhal
from pipelines.vlm_objects import read_vocabulary
from pipelines.vlm_pope import read_pope, score_pope


@dataclass(frozen=True, slots=True)
class Tools:
    """What a benchmark needs beside questions and answers.

    Args:
        questions: the files or folders that the questions were read from.
        synonyms: of CHAIR.
        judge: of MMHal-Bench, and of HallusionBench where there is one.
    """

    questions: Sequence[Path]
    synonyms: Path | None = None
    judge: Judge | None = None


Score = Callable[[Sequence[Item], Mapping[str, str], Tools], dict[str, Tally]]


@dataclass(frozen=True, slots=True)
class VlmBenchmark:
    """One benchmark.

    Args:
        title: its name.
        read: files -> questions.
        score: questions, answers by id, tools -> tallies by part.
        some: its figures are of any choice of its images.
        note: what is not as in the authors' script.
    """

    title: str
    read: Callable[[Sequence[Path]], list[Item]]
    score: Score
    some: bool = False
    note: str = ""


def benchmark_named(name: str) -> VlmBenchmark:
    """The benchmark of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in VLM_BENCHMARKS:
        raise ValueError(f"--benchmark: {one_of(name, VLM_BENCHMARKS)}")
    return VLM_BENCHMARKS[name]


def _pope(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    return score_pope(items, texts)


def _chair(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    if tools.synonyms is None:
        raise ValueError(
            "--synonyms: CHAIR needs a file of object words, such as the synonyms.txt of its repository: an object a "
            "line, its name first, other words for it after commas"
        )
    return score_chair(items, texts, read_vocabulary(tools.synonyms))


def _amber(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    return score_amber(items, texts, read_words(tools.questions[0]))


def _mmhal(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    if tools.judge is None:
        raise ValueError(
            "--judge: MMHal-Bench needs one: the URL of an endpoint with --judge-model, or a file of replies "
            '{"id": "mmhal/0", "reply": "... Rating: 4"}'
        )
    return score_mmhal(items, texts, tools.judge)


def _hallusion(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    return score_hallusion(items, texts, tools.judge)


def _mme(items: Sequence[Item], texts: Mapping[str, str], tools: Tools) -> dict[str, Tally]:
    return score_mme(items, texts)


VLM_BENCHMARKS = {
    "pope": VlmBenchmark("POPE", read_pope, _pope),
    "chair": VlmBenchmark(
        "CHAIR",
        read_chair,
        _chair,
        some=True,
        note="depends on the images, the question and the most tokens of an answer: state them beside it; singular "
        "forms are our own",
    ),
    "amber": VlmBenchmark(
        "AMBER",
        read_amber,
        _amber,
        note="the descriptions' nouns are words of relation.json, without a tagger, and no word is similar to another "
        "but by that file: CHAIR, Cover, Hal, Cog and the score compare runs here, not with published figures",
    ),
    "mmhal": VlmBenchmark("MMHal-Bench", read_mmhal, _mmhal, note="the judge is asked in words of ours"),
    "hallusion": VlmBenchmark("HallusionBench", read_hallusion, _hallusion),
    "mme": VlmBenchmark("MME", read_mme, _mme),
}
"""By the name that `mmpo eval --benchmark` takes."""
