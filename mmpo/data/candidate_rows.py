"""One row of a data set as the candidates in it: its prompt, and each image or answer with what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmpo.data.format_values import caption, label
from mmpo.data.rows import is_our_id
from mmpo.data.source_rows import Row, image_bytes, short
from mmpo.records import normalise_text

PROMPTS = ("prompt", "question", "text", "caption", "instruction")
IMAGES = ("image", "file_name", "jpg", "png", "image_path", "file_path", "path")
ANSWERS = ("response", "answer", "responses", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Draft:
    """One candidate as a row holds it.

    Args:
        image: encoded bytes; empty where `error` says why there are none.
        response: None where the image is the candidate, else the answer that is.
    """

    image: bytes = b""
    response: str | None = None
    error: str | None = None
    made: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowDrafts:
    """A row's prompt and candidates.

    Args:
        prompt: "" where it cannot be read; every draft says so then.
        cluster: of the prompt, as `Prompt.cluster`.
        id: the row's own, where we made it; "" otherwise.
    """

    prompt: str
    cluster: str
    split: str
    drafts: Sequence[Draft]
    place: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where a format has its candidates.

    Args:
        prompt: columns of the prompt; the first that is there.
        images: columns of one image each.
        listed: a column that holds a list of images.
        made: columns that say what made each image.
    """

    prompt: tuple[str, ...]
    images: tuple[str, ...] = ()
    listed: str = ""
    made: tuple[str, ...] = ()


LAYOUTS = {
    "pairs": Pictures(("prompt",), ("chosen", "rejected")),
    "pick_a_pic": Pictures(("caption", "caption_0", "caption_1"), ("jpg_0", "jpg_1"), made=("model_0", "model_1")),
    "ranked": Pictures(("prompt",), listed="images"),
    "hpdv3": Pictures(("prompt",), ("path1", "path2"), made=("model1", "model2")),
    "hpdv2": Pictures(("prompt",), listed="file_path"),
    "image_reward": Pictures(("prompt",), listed="generations"),
    "hpdv2_test": Pictures(("prompt",), listed="image_path"),
    "image_reward_metadata": Pictures(("prompt",), ("image_path",)),
    **{
        name: Pictures(("prompt",), ("image1", "image2"), made=("model1", "model2"))
        for name in ("votes", "weighted_votes", "aggregated_votes")
    },
    "open_image_preferences": Pictures(("prompt",), ("image_1", "image_2"), made=("model_1", "model_2")),
    "rich_hf": Pictures(("prompt",), ("filename",)),
    "images": Pictures(PROMPTS, IMAGES),
}
"""Where each format of preference rows (`mmpo.data.formats.FORMATS`) has its images; "images" is one image a row."""


def pictures_of(row: Row, layout: Pictures) -> RowDrafts:
    """The images of a row, each a candidate for its prompt. Nothing raises: what cannot be read says so."""

    def drafts() -> list[Draft]:
        if layout.listed:
            values = _listed(row.values.get(layout.listed), layout.listed)
            names = {f"{layout.listed}[{number}]": value for number, value in enumerate(values)}
        else:
            names = {name: row.values.get(name) for name in layout.images if name in row.values}
            names = dict([*names.items()][:1]) if layout.images == IMAGES else names
        missing = [name for name in layout.images if name not in row.values] if layout.images != IMAGES else []
        if missing or not names:
            raise ValueError(f"column '{(missing or [layout.listed or IMAGES[0]])[0]}' is missing or empty")
        made = _made(row, layout, len(names))
        return [_draft(row, value, name, made[k]) for k, (name, value) in enumerate(names.items())]

    return _drafted(row, layout.prompt, drafts)


def answers_of(row: Row) -> RowDrafts:
    """The text answers of a row to its question about its image: `response`, `responses`, or `chosen, rejected`."""

    def drafts() -> list[Draft]:
        name = next((name for name in (*IMAGES, "images") if row.values.get(name) is not None), IMAGES[0])
        value = row.values.get(name)
        images = _listed(value, name) if isinstance(value, list | tuple) else [value]
        if len(images) != 1:
            raise ValueError(f"column '{name}' holds {len(images)} images; a question is about one")
        image = _draft(row, images[0], name, {})
        found = []
        for column in ANSWERS:
            value = row.values.get(column)
            texts = value if isinstance(value, list | tuple) else [value] if value is not None else []
            found += [_answer(text, column, image) for text in texts]
        if not found:
            raise ValueError("no answer; expected a column 'response', 'responses', or 'chosen' and 'rejected'")
        made = _made(row, Pictures(PROMPTS), len(found))
        return [replace(answer, made=one) for answer, one in zip(found, made, strict=True)]

    return _drafted(row, PROMPTS, drafts)


def _drafted(row: Row, prompts: Sequence[str], drafts: Callable[[], list[Draft]]) -> RowDrafts:
    split, key = label(row.values.get("split")), label(row.values.get("key"))
    name = next((name for name in prompts if row.values.get(name) is not None), prompts[0])
    text, fault, found = "", row.fault, [Draft()]
    if not fault:
        try:
            text = caption(row.values, name).replace("<image>", "").strip()
            if not text:
                raise ValueError(f"column '{name}' is empty")
        except ValueError as error:
            fault = str(error)
        try:
            found = drafts()
        except ValueError as error:
            fault = fault or str(error)
    if fault:
        found = [Draft(draft.image, draft.response, draft.error or fault, draft.made) for draft in found]
    own = row.values.get("id")
    name = str(own) if is_our_id(own) else ""
    return RowDrafts(text, key or normalise_text(text), split, found, row.place, name)


def _draft(row: Row, value: Any, column: str, made: Mapping[str, Any]) -> Draft:
    try:
        image = image_bytes(value, column, row.open_file)
    except ValueError as error:
        return Draft(error=str(error), made=made)
    named = f" {short(value)}" if isinstance(value, str) else ""
    return Draft(image, error=None if image else f"column '{column}':{named} is empty (0 bytes)", made=made)


def _answer(text: Any, column: str, image: Draft) -> Draft:
    try:
        return Draft(image.image, caption({column: text}, column), image.error)
    except ValueError as error:
        return Draft(image.image, None, image.error or str(error))


def _listed(value: Any, column: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"column '{column}' holds one {type(value).__name__}; expected a list")
    return value


def _made(row: Row, layout: Pictures, count: int) -> list[Mapping[str, Any]]:
    """What made each image: our own provenance column, or the format's columns of models."""
    if layout.made:
        return [{"model": row.values[name]} if row.values.get(name) else {} for name in layout.made]
    try:
        said = json.loads(row.values.get("provenance") or "null")
    except (TypeError, ValueError):
        said = None
    if isinstance(said, dict) and count == 1:
        return [said]
    return said if isinstance(said, list) and len(said) == count else [{} for _ in range(count)]
