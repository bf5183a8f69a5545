"""Files of answers, of `mmpo respond` or of other tools, matched with a benchmark's questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.vlm_items import Item, pair_name, rows_in

RESPONSES = ("responses", "response", "answer", "model_answer", "model_prediction", "prediction", "caption", "text")
IDS = ("key", "question_id", "id", "item", "image_id", "idx")
QUESTIONS = ("question", "prompt", "query")


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One row of a file of answers.

    Args:
        text: what was answered; of several the first.
        names: what the row calls its question.
        question: what the row says was asked; "" where it does not say.
        image: the file's name that the row gives; "" where it gives none.
    """

    text: str
    names: tuple[str, ...]
    question: str
    place: str
    image: str = ""


@dataclass(frozen=True, slots=True)
class Matched:
    """Answers by question.

    Args:
        texts: by the item's id.
        left_out: groups of the benchmark of which no question is answered.
        missing: ids without an answer in the groups that are answered.
        notes: what was assumed.
    """

    texts: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def read_given(path: Path) -> list[GivenAnswer]:
    """The rows of a file or folder of answers.

    Raises:
        ValueError: nothing there, or a row without an answer.
    """
    if path.is_dir() and list(path.glob("*.txt")) and not list(path.glob("*.parquet")):
        return _tab_files(path)
    return [_given(row, place) for place, row in rows_in(path)]


def match(items: Sequence[Item], given: Sequence[GivenAnswer], *, partial: bool = False) -> Matched:
    """Each question's answer: by its id or another of its names, by image and question, or by their order in the file.

    Args:
        partial: questions may be unanswered in a group of which others are answered.
    Raises:
        ValueError: two different answers to one question, no answer to any, or missing ones where that is fatal.
    """
    nameless = given and not any(row.names for row in given)
    if nameless and len(given) == len(items):
        return _by_order(items, given)
    known: dict[str, GivenAnswer] = {}
    twice: dict[str, tuple[str, str]] = {}
    for row in given:
        for name in row.names:
            before = known.setdefault(name, row)
            if before.text != row.text:
                twice[name] = (before.place, row.place)
    files = {_file(item.image) for item in items} - {""}
    texts: dict[str, str] = {}
    for item in items:
        names = (item.id, *item.names, item.pair)
        rows = (known[name] for name in names if name in known and name not in twice)
        # a number may be one question's id and another image's; the image that the row names decides
        found = next((row for row in rows if row.image not in files or row.image == _file(item.image)), None)
        clash = next((name for name in names if name in twice), None)
        if found is not None:
            texts[item.id] = found.text
        elif clash is not None:
            raise ValueError(f"{twice[clash][1]}: answers '{clash}' otherwise than {twice[clash][0]}; keep one of them")
    texts = _shared(items, texts)
    answered = _answered(items, texts)
    texts = {item.id: texts[item.id] for item in items if item.id in texts and item.group in answered}
    missing = tuple(item.id for item in items if item.group in answered and item.id not in texts)
    if not texts:
        raise ValueError(_none(items, given))
    if missing and not partial:
        raise ValueError(
            f"{len(missing):,} of {len(items):,} questions have no answer ({', '.join(missing[:3])}, ...); answer "
            "them, or give --partial for figures of the others alone"
        )
    groups = dict.fromkeys(item.group for item in items if item.group not in answered)
    known_names = {name for item in items for name in (item.id, *item.names, item.pair)}
    stray = sum(not known_names.intersection(row.names) for row in given)
    notes = (f"{stray:,} of {len(given):,} answers belong to no question",) if stray else ()
    return Matched(texts, tuple(groups), missing, notes)


def _file(image: str) -> str:
    """A path's last part."""
    return image.replace("\\", "/").rpartition("/")[2]


def _shared(items: Sequence[Item], texts: dict[str, str]) -> dict[str, str]:
    """A question that stands in several parts of a benchmark is asked once."""
    by_pair = {item.pair: texts[item.id] for item in items if item.id in texts and item.image}
    found = {item.id: texts.get(item.id, by_pair.get(item.pair) if item.image else None) for item in items}
    return {name: text for name, text in found.items() if text is not None}


def _answered(items: Sequence[Item], texts: Mapping[str, str]) -> set[str]:
    """The groups that were asked: whole, or with an answer to what no other group asks too."""
    askers: dict[str, set[str]] = {}
    groups: dict[str, list[Item]] = {}
    for item in items:
        askers.setdefault(item.pair if item.image else item.id, set()).add(item.group)
        groups.setdefault(item.group, []).append(item)
    found = {
        group
        for group, mine in groups.items()
        if all(item.id in texts for item in mine)
        or any(item.id in texts and len(askers[item.pair if item.image else item.id]) == 1 for item in mine)
    }
    return found or {item.group for item in items if item.id in texts}


def _by_order(items: Sequence[Item], given: Sequence[GivenAnswer]) -> Matched:
    for item, row in zip(items, given, strict=True):
        if row.question and pair_name("", row.question) != pair_name("", item.question):
            raise ValueError(f"{row.place}: answers '{row.question}', and in its place stands '{item.question}'")
    texts = {item.id: row.text for item, row in zip(items, given, strict=True)}
    return Matched(texts, notes=("the answers name no questions; they were taken in order",))


def _given(row: Mapping[str, Any], place: str) -> GivenAnswer:
    column = next((name for name in RESPONSES if row.get(name) is not None), None)
    value = row[column] if column is not None else None
    value = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(value, str):
        raise ValueError(f"{place}: holds no answer; expected a column {', '.join(RESPONSES[1:])} with a text")
    question = next((str(row[name]) for name in QUESTIONS if isinstance(row.get(name), str)), "")
    names = [str(row[name]) for name in IDS if isinstance(row.get(name), str | int)]
    image = row.get("image")
    file = _file(image) if isinstance(image, str) else ""
    if isinstance(image, str):
        names += [pair_name(image, question), file] if question else [file]
    return GivenAnswer(value, tuple(names), question, place, file)


def _tab_files(folder: Path) -> list[GivenAnswer]:
    """MME's layout: a file a task, lines of image, question, truth and answer between tabs."""
    found = []
    for file in sorted(folder.glob("*.txt")):
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
            cells = line.split("\t")
            if line.strip():
                place = f"{file}, line {number}"
                if len(cells) != 4:
                    raise ValueError(f"{place}: {len(cells)} cells; expected image, question, truth and answer")
                name = f"{file.stem}/{pair_name(cells[0], cells[1])}"
                found.append(GivenAnswer(cells[3], (name,), cells[1], place))
    return found


def _none(items: Sequence[Item], given: Sequence[GivenAnswer]) -> str:
    if not given:
        return "the file of answers is empty"
    named = ", ".join(given[0].names[:2]) or "nothing"
    return (
        f"no answer belongs to a question of the benchmark: {given[0].place} is named {named!r}, and the first "
        f"question is named {items[0].id!r}; name them in a column 'key' or 'question_id'"
    )
