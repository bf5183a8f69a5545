"""CHAIR: how many of the objects that descriptions name are not in the image."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.vlm_intervals import Measure, Tally, Unit, mean, share
from pipelines.vlm_items import Item, needed, read_object, rows_in
from pipelines.vlm_objects import Vocabulary, counted

QUESTION = "Please describe this image in detail."
EXPECTED = (
    "COCO's instances_*.json and captions_*.json, a folder of them, or rows such as "
    '{"image": "1.jpg", "objects": ["dog"], "captions": ["a dog"]}'
)
MEASURES: Mapping[str, Measure] = {
    "CHAIR_s": Measure(share("wrong texts", "texts"), higher=False),
    "CHAIR_i": Measure(share("wrong mentions", "mentions"), higher=False),
    "recall": Measure(share("found", "truth")),
    "wrong of those naming objects": Measure(share("wrong texts", "naming"), higher=False),
    "objects named": Measure(mean("mentions", "texts"), "a text", None),
    "words": Measure(mean("words", "texts"), "words", None),
}


def read_chair(paths: Sequence[Path]) -> list[Item]:
    """An item an image, with the names of its objects and its reference captions.

    Raises:
        ValueError: a file that is neither of COCO's nor rows of objects.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    images: dict[str, dict[str, Any]] = {}
    for file in files:
        data = _coco(file)
        if data is not None:
            _add_coco(images, data, file)
        else:
            _add_rows(images, file)
    if not images:
        raise ValueError(f"{paths[0]}: holds no image; expected {EXPECTED}")
    return [
        Item(
            name,
            QUESTION,
            truth["file"],
            {"objects": truth["objects"], "captions": truth["captions"]},
            (truth["file"],),
        )
        for name, truth in images.items()
    ]


def drawn(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """So many images at random, as figures on COCO are usually given."""
    return list(items) if limit >= len(items) else random.Random(seed).sample(list(items), limit)


def score_chair(items: Sequence[Item], texts: Mapping[str, str], words: Vocabulary) -> dict[str, Tally]:
    """CHAIR_s: texts that name an object that is not there; CHAIR_i: such mentions among all mentions.

    What is in an image: its annotated objects and what its reference captions name. Recall and length stand beside
    them, since shorter descriptions have fewer errors.

    Raises:
        ValueError: an annotated object that the vocabulary does not have.
    """
    return {"descriptions": Tally([_unit(item, texts[item.id], words) for item in items if item.id in texts], MEASURES)}


def _unit(item: Item, text: str, words: Vocabulary) -> Unit:
    truth = set()
    for name in item.truth["objects"]:
        if name.lower() not in words.classes:
            raise ValueError(
                f"image {item.id}: the object '{name}' is not in the file of synonyms; is it of this data?"
            )
        truth.add(words.classes[name.lower()])
    for caption in item.truth["captions"]:
        truth.update(words.mentions(caption))
    counts = {**counted(words.mentions(text), truth), "words": len(text.split())}
    return Unit(item.id, {name: float(value) for name, value in counts.items()})


def _coco(file: Path) -> dict[str, Any] | None:
    """COCO's object of lists; None for rows, in a list or one a line."""
    if file.suffix != ".json" or not file.is_file():
        return None
    try:
        data = read_object(file)
    except ValueError:
        return None
    return data if isinstance(data, dict) and isinstance(data.get("annotations"), list) else None


def _add_coco(images: dict[str, dict[str, Any]], data: Mapping[str, Any], file: Path) -> None:
    names = {one["id"]: one["name"] for one in data.get("categories", [])}
    for image in data.get("images", []):
        _image(images, str(image["id"]), str(image.get("file_name", image["id"])))
    try:
        for one in data["annotations"]:
            image = _image(images, str(one["image_id"]), str(one["image_id"]))
            if "caption" in one:
                image["captions"].append(one["caption"])
            else:
                image["objects"].add(names[one["category_id"]])
    except KeyError as error:
        raise ValueError(f"{file}: an annotation without {error}; expected {EXPECTED}") from None


def _add_rows(images: dict[str, dict[str, Any]], file: Path) -> None:
    for place, row in rows_in(file):
        (name,) = needed(row, ("image",), place, EXPECTED)
        objects, captions = row.get("objects"), row.get("captions") or []
        if not isinstance(objects, list | tuple) or not isinstance(captions, list | tuple):
            raise ValueError(f"{place}: 'objects' is no list; expected {EXPECTED}")
        image = _image(images, str(row.get("image_id", name)), name)
        image["objects"].update(map(str, objects))
        image["captions"] += map(str, captions)


def _image(images: dict[str, dict[str, Any]], name: str, file: str) -> dict[str, Any]:
    return images.setdefault(name, {"file": file, "objects": set(), "captions": []})
