"""POPE: is there a ... in the image? Accuracy, precision, recall, F1 and the share of yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.vlm_intervals import Counts, Measure, Tally, Unit, mean, ratio, share
from pipelines.vlm_items import Item, needed, rows_in
from pipelines.vlm_yes_no import pope_answer, said

EXPECTED = '{"question_id": 1, "image": "COCO_val2014_....jpg", "text": "Is there a ... in the image?", "label": "yes"}'


def f1(counts: Counts) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) in percent, which is 2PR / (P + R)."""
    return 100 * ratio(2 * counts["tp"], 2 * counts["tp"] + counts["fp"] + counts["fn"])


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(share("correct", "n")),
    "precision": Measure(share("tp", "said yes")),
    "recall": Measure(share("tp", "true yes")),
    "f1": Measure(f1),
    "yes ratio": Measure(share("said yes", "n"), higher=None),
    "neither yes nor no": Measure(share("unclear", "n"), higher=False),
    "words": Measure(mean("words", "n"), "words", None),
}


def read_pope(paths: Sequence[Path]) -> list[Item]:
    """The questions of coco_pope_random.json and its like, a JSON object a line; a file is a group.

    Raises:
        ValueError: a row without a label yes or no.
    """
    items = []
    for path in paths:
        for number, (place, row) in enumerate(rows_in(path), 1):
            image, text, label = needed(row, ("image", "text", "label"), place, EXPECTED)
            if label not in ("yes", "no"):
                raise ValueError(f"{place}: the label is '{label}'; expected yes or no")
            name = str(row.get("question_id", number))
            names = (name,) if len(paths) == 1 else ()
            items.append(Item(f"{path.stem}/{name}", text, image, {"label": label}, names, path.stem))
    return items


def score_pope(items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, Tally]:
    """A tally of each file, and of several also of all together; clustered by image.

    "no" is what `pope_answer` finds; everything else counts as yes, so the share that says neither stands beside it.

    References:
        Li et al., Evaluating Object Hallucination in Large Vision-Language Models, arXiv 2305.10355.
    """
    units: dict[str, list[Unit]] = {}
    for item in items:
        if item.id in texts:
            units.setdefault(item.group, []).append(_unit(item, texts[item.id]))
    found = {group: Tally(part, MEASURES) for group, part in units.items()}
    if len(found) > 1:
        found["all"] = Tally([unit for part in units.values() for unit in part], MEASURES)
    return found


def _unit(item: Item, text: str) -> Unit:
    yes, true = pope_answer(text) == "yes", item.truth["label"] == "yes"
    counts = {"n": 1, "correct": yes == true, "tp": yes and true, "fp": yes and not true, "fn": true and not yes}
    counts |= {"said yes": yes, "true yes": true, "unclear": said(text) == "unclear", "words": len(text.split())}
    return Unit(item.image, {name: float(value) for name, value in counts.items()})
