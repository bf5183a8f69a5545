"""HallusionBench: one question about figures that were changed, right only where all of a group are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.vlm_intervals import Measure, Tally, Unit, mean, share
from pipelines.vlm_items import Item, needed, rows_in
from pipelines.vlm_judge import Judge, asked_of
from pipelines.vlm_yes_no import said

FIELDS = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input", "gt_answer", "question")
EXPECTED = f"HallusionBench.json: rows of {', '.join(FIELDS)}, gt_answer_details, filename"
PROMPT = """Compare an answer with the reference answer to the same question.

Question: {question}
Reference answer: {truth}
Answer: {answer}

Reply with one word: correct if the answer agrees with the reference, incorrect if it contradicts it, unclear if it \
does not commit itself.
"""
MEASURES: Mapping[str, Measure] = {
    "aAcc": Measure(share("right", "n")),
    "qAcc": Measure(share("right questions", "questions")),
    "fAcc": Measure(share("right figures", "figures")),
    "easy": Measure(share("right easy", "easy")),
    "hard": Measure(share("right hard", "hard")),
    "unclear": Measure(share("unclear", "n"), higher=None),
    "words": Measure(mean("words", "n"), "words", None),
}
Verdict = str
"""correct, incorrect or unclear."""


def read_hallusion(paths: Sequence[Path]) -> list[Item]:
    """The rows of HallusionBench.json; those without a figure are a group of their own.

    Raises:
        ValueError: a row that lacks a column.
    """
    items = []
    for path in paths:
        for place, row in rows_in(path):
            needed(row, FIELDS, place, EXPECTED)
            about = {name: str(row[name]) for name in FIELDS}
            about["details"] = str(row.get("gt_answer_details") or {"1": "Yes", "0": "No"}.get(about["gt_answer"], ""))
            names = ("category", "subcategory", "set_id", "figure_id", "question_id")
            bare = about["visual_input"] == "0"
            image = "" if bare else _image(about, row.get("filename"))
            group = "without a figure" if bare else "with a figure"
            items.append(Item("_".join(about[name] for name in names), about["question"], image, about, (), group))
    return items


def score_hallusion(items: Sequence[Item], texts: Mapping[str, str], judge: Judge | None = None) -> dict[str, Tally]:
    """Tallies of all rows and of its two categories, VD and VS; clustered by set, since its figures belong together.

    aAcc: rows that are right; qAcc: questions of a set of which every figure's is; fAcc: figures of which every
    question's is, without VS rows that have none; easy and hard: qAcc over the rows without a figure or with an
    original one (visual_input 0 and 1), and over those with a changed one (2); VS has original figures of number 1 and
    above. A row is right where the verdict is "correct"; VS rows without a figure also where it is "unclear".

    Args:
        judge: its reply is searched for "incorrect" before "correct"; None: the answer's yes or no against the truth.
    References:
        Guan et al., HallusionBench, arXiv 2310.14566, and its utils.py. The words that the judge is asked in are ours.
    """
    here = [item for item in items if item.id in texts]
    verdicts = _judged(here, texts, judge) if judge is not None else {i.id: by_word(texts[i.id], i) for i in here}
    found = {"all": Tally(_units(here, verdicts, texts), MEASURES)}
    for category in dict.fromkeys(item.truth["category"] for item in here):
        part = [item for item in here if item.truth["category"] == category]
        found[category] = Tally(_units(part, verdicts, texts), MEASURES)
    return found


def by_word(text: str, item: Item) -> Verdict:
    """Yes and no against the truth; exact, without a judge."""
    answer = said(text)
    truth = {"1": "yes", "0": "no"}.get(item.truth["gt_answer"])
    return "unclear" if answer == "unclear" else "correct" if answer == truth else "incorrect"


def verdict_of(reply: str | None) -> Verdict:
    """What a judge's reply says; "unclear" where it says neither."""
    text = (reply or "").lower()
    return "incorrect" if "incorrect" in text else "correct" if "correct" in text else "unclear"


def _judged(items: Sequence[Item], texts: Mapping[str, str], judge: Judge) -> dict[str, Verdict]:
    prompts = {
        item.id: PROMPT.format(question=item.question, truth=item.truth["details"], answer=texts[item.id])
        for item in items
    }
    return {name: verdict_of(reply) for name, reply in asked_of(judge, prompts).items()}


def _right(item: Item, verdict: Verdict) -> bool:
    bare = item.truth["category"] == "VS" and item.truth["figure_id"] == "0"
    return verdict == "correct" or (bare and verdict == "unclear")


def _units(items: Sequence[Item], verdicts: Mapping[str, Verdict], texts: Mapping[str, str]) -> list[Unit]:
    right = {item.id: _right(item, verdicts[item.id]) for item in items}
    units = []
    for item in items:
        counts = {"n": 1, "right": right[item.id], "unclear": verdicts[item.id] == "unclear"}
        units.append(_unit(item, {**counts, "words": len(texts[item.id].split())}))
    original = [item for item in items if item.truth["visual_input"] != "2"]
    changed = [item for item in items if item.truth["visual_input"] == "2"]
    seen = [item for item in items if not (item.truth["category"] == "VS" and item.truth["figure_id"] == "0")]
    for name, part, key in (
        ("questions", items, "question_id"),
        ("figures", seen, "figure_id"),
        ("easy", original, "question_id"),
        ("hard", changed, "question_id"),
    ):
        units += _grouped(part, right, name, key)
    return units


def _grouped(items: Sequence[Item], right: Mapping[str, bool], name: str, key: str) -> list[Unit]:
    """A unit of each group that has one set and one `key`: it is right where every row is."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((_set(item), item.truth[key]), []).append(item)
    return [
        _unit(members[0], {name: 1, f"right {name}": all(right[item.id] for item in members)})
        for members in groups.values()
    ]


def _unit(item: Item, counts: Mapping[str, float]) -> Unit:
    return Unit(_set(item), {name: float(value) for name, value in counts.items()})


def _set(item: Item) -> str:
    return "_".join(item.truth[name] for name in ("category", "subcategory", "set_id"))


def _image(about: Mapping[str, str], filename: object) -> str:
    """The file's path as the data set's archive has it, where the row does not say."""
    if isinstance(filename, str) and filename:
        return filename.removeprefix("./")
    return f"{about['category']}/{about['subcategory']}/{about['set_id']}_{about['figure_id']}.png"
