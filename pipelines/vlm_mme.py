"""MME: two questions an image, one of them answered yes and one no; accuracy and accuracy+ by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.vlm_intervals import Counts, Measure, Tally, Unit, mean, ratio, share
from pipelines.vlm_items import Item, pair_name
from pipelines.vlm_yes_no import mme_answer

PERCEPTION = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def read_mme(paths: Sequence[Path]) -> list[Item]:
    """Questions of TASK.txt files: image, question and truth between tabs (what follows is not looked at).

    Args:
        paths: files, or folders of them.
    Raises:
        ValueError: another number of cells, a truth that is neither Yes nor No, or not two questions about an image.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
    if not files:
        raise ValueError(f"{paths[0]}: holds no .txt file; expected MME's files, one a task, such as existence.txt")
    items = []
    for file in files:
        found = [_item(file, number, line) for number, line in enumerate(_lines(file), 1) if line.strip()]
        for image in dict.fromkeys(item.image for item in found):
            count = sum(item.image == image for item in found)
            if count != 2:
                raise ValueError(f"{file}: {count} questions about {image}; MME asks two about each image")
        items += found
    return items


def score_mme(items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, Tally]:
    """A tally of each task, of perception, of cognition; images are resampled within each task.

    Task score = accuracy % + accuracy+ %, the latter over images of which both questions are right. Perception and
    cognition are sums over the tasks that are there. What is neither yes nor no is wrong.

    References:
        Fu et al., MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models, arXiv 2306.13394.
    """
    units: dict[str, list[Unit]] = {}
    for task in dict.fromkeys(item.group for item in items):
        here = [item for item in items if item.group == task and item.id in texts]
        for image in dict.fromkeys(item.image for item in here):
            both = [item for item in here if item.image == image]
            if len(both) == 2:
                units.setdefault(task, []).append(_image(task, image, both, texts))
    found = {task: Tally(part, _measures(task)) for task, part in units.items()}
    for name, tasks in (("perception", PERCEPTION), ("cognition", COGNITION)):
        there = [task for task in tasks if task in units]
        if there:
            every = [unit for task in there for unit in units[task]]
            found[name] = Tally(every, {f"score of {len(there)} tasks": Measure(_sum_of(there), "points")})
    return found


def _image(task: str, image: str, both: Sequence[Item], texts: Mapping[str, str]) -> Unit:
    said = [mme_answer(texts[item.id]) for item in both]
    right = [one == item.truth["label"] for one, item in zip(said, both, strict=True)]
    words = sum(len(texts[item.id].split()) for item in both)
    counts = {"questions": 2, "right": sum(right), "images": 1, "both": all(right), "other": said.count("other")}
    return Unit(image, {f"{task}/{name}": float(n) for name, n in {**counts, "words": words}.items()}, task)


def _score(task: str, counts: Counts) -> NDArray[np.float64]:
    accuracy = ratio(counts[f"{task}/right"], counts[f"{task}/questions"])
    return 100 * (accuracy + ratio(counts[f"{task}/both"], counts[f"{task}/images"]))


def _measures(task: str) -> dict[str, Measure]:
    return {
        "score": Measure(lambda counts: _score(task, counts), "points"),
        "accuracy": Measure(share(f"{task}/right", f"{task}/questions")),
        "accuracy+": Measure(share(f"{task}/both", f"{task}/images")),
        "neither yes nor no": Measure(share(f"{task}/other", f"{task}/questions"), higher=False),
        "words": Measure(mean(f"{task}/words", f"{task}/questions"), "words", None),
    }


def _sum_of(tasks: Sequence[str]) -> Callable[[Counts], NDArray[np.float64]]:
    return lambda counts: np.sum([_score(task, counts) for task in tasks], axis=0)


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise ValueError(f"{file}: no such file or folder")
    return file.read_text(encoding="utf-8-sig").splitlines()


def _item(file: Path, number: int, line: str) -> Item:
    cells = line.split("\t")
    place = f"{file}, line {number}"
    if len(cells) < 3:
        raise ValueError(f"{place}: {len(cells)} cells between tabs; expected image, question and Yes or No")
    image, question, truth = cells[:3]
    label = truth.strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"{place}: the truth is '{truth}'; expected Yes or No")
    name = f"{file.stem}/{pair_name(image, question)}"
    return Item(f"{file.stem}/{number}", question, f"{file.stem}/{image}", {"label": label}, (name,), file.stem)
