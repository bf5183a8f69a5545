"""Pairs as two folders of images with equal names, captions in text files beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpo.data.source_paths import found_in, read_file, some
from mmpo.data.source_rows import BESIDE, Row, Source
from mmpo.records import SPLITS

SIDES = (
    ("w", "l"),
    ("chosen", "rejected"),
    ("win", "lose"),
    ("winner", "loser"),
    ("good", "bad"),
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
OTHER_IMAGES = (".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".svg", ".psd")
CAPTION_SUFFIXES = (".txt", ".caption")
SPLIT_NAMES = (*SPLITS, "validation", "valid", "val", "dev", "eval")


@dataclass(frozen=True, slots=True)
class Side:
    """One folder's files by stem, the path from the folder without its suffix.

    Args:
        images: several under one stem cannot be told apart.
        captions: text files.
        faults: what is in the folder but is not read, and why.
    """

    folder: Path
    images: dict[str, list[Path]] = field(default_factory=dict)
    captions: dict[str, list[Path]] = field(default_factory=dict)
    faults: list[tuple[Path, str]] = field(default_factory=list)


def pair_sides(folder: Path) -> tuple[Path, Path] | None:
    """The subfolders (chosen, rejected) of a folder of pairs, or None where it is not one.

    Raises:
        ValueError: two such couples.
    """
    inside = _subfolders(folder)
    found = [(good, bad) for good, bad in SIDES if good in inside and bad in inside]
    found = [names for names in found if any(_has_images(inside[name]) for name in names)]
    if len(found) > 1:
        named = " and ".join(f"{good}/ with {bad}/" for good, bad in found)
        raise ValueError(f"data.path {folder}: holds {named}; name one with data.path and data.rejected")
    return (inside[found[0][0]], inside[found[0][1]]) if found else None


def couples_below(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The subfolders (chosen, rejected) of each folder in this one that is a folder of pairs, by its name."""
    inside = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    return {item.name: sides for item in inside if (sides := pair_sides(item)) is not None}


def open_couples(folder: Path, couples: Mapping[str, tuple[Path, Path]], split: str | None) -> Source:
    """Pairs of several folders, each with its own two; their names are splits where one of them is a split's.

    Args:
        couples: (chosen, rejected) by the name of their folder.
        split: read the folder of this name only.
    Raises:
        ValueError: no folder of that name, or one without a pair.
    """
    if split is not None and split not in couples:
        raise ValueError(
            f"data.split: no folder of {folder} is named '{split}'; image folders are in {', '.join(couples)}; "
            "leave data.split out to read them all"
        )
    wanted = [name for name in couples if split in (None, name)]
    are_splits = any(name in SPLIT_NAMES for name in couples)
    parts = [open_folders(*couples[name], folder / name, name if are_splits else "") for name in wanted]

    def rows() -> Iterator[Row]:
        for part in parts:
            yield from part.rows()

    layout = f"image folders in {', '.join(f'{name}/' for name in wanted)}"
    return Source(layout, parts[0].columns, rows, sum(part.total or 0 for part in parts))


def refuse_lone_side(folder: Path) -> None:
    """Says which subfolder is missing where only the chosen or only the rejected images are there."""
    inside = _subfolders(folder)
    for here, missing in [couple for good, bad in SIDES for couple in ((good, bad), (bad, good))]:
        if here in inside and missing not in inside and _has_images(inside[here]):
            raise ValueError(
                f"data.path {folder}: images in {here}/ but no folder {missing}/ beside it; found {found_in(folder)}"
            )


def _subfolders(folder: Path) -> dict[str, Path]:
    return {item.name.lower(): item for item in folder.iterdir() if item.is_dir()}


def open_folders(chosen: Path, rejected: Path, parent: Path | None, split: str = "") -> Source:
    """Pairs of two folders: `x.png` in both, its caption in `x.txt` or `x.caption` beside either, or in `parent`.

    Args:
        split: of all of their pairs.
    Raises:
        ValueError: a folder that is not there, the same twice, or no image with a partner.
    """
    for name, folder in (("data.path", chosen), ("data.rejected", rejected)):
        if not folder.is_dir():
            raise ValueError(f"{name} {folder}: no such folder; expected one of images")
    if chosen.resolve() == rejected.resolve():
        raise ValueError(f"data.rejected {rejected}: is data.path itself; the rejected images have their own folder")
    sides = look(chosen), look(rejected)
    stems = sorted(sides[0].images.keys() | sides[1].images.keys())
    if not sides[0].images.keys() & sides[1].images.keys():
        raise ValueError(
            f"no image pairs: no image of {chosen} has one of the same name in {rejected}; found "
            f"{some(sides[0].images)} and {some(sides[1].images)} (images are {', '.join(IMAGE_SUFFIXES)})"
        )
    faults = [(path, why) for side in sides for path, why in side.faults]

    def rows() -> Iterator[Row]:
        yield from (Row(str(path), fault=why) for path, why in faults)
        yield from (_row(stem, *sides, parent, split) for stem in stems)

    columns = ["prompt", "chosen", "rejected", *(["split"] if split else [])]
    return Source("image folders", columns, rows, len(stems) + len(faults))


def look(folder: Path) -> Side:
    """What is in a folder at any depth; hidden files are not looked at."""
    side = Side(folder)
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                side.faults.append((path, "a link to a folder is not followed; copy the images, or name the folder"))
        for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            stem, suffix = path.relative_to(folder).with_suffix("").as_posix(), path.suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                side.images.setdefault(stem, []).append(path)
            elif suffix in CAPTION_SUFFIXES:
                side.captions.setdefault(stem, []).append(path)
            elif suffix in OTHER_IMAGES:
                side.faults.append((path, f"{suffix} images are not read; save it as PNG, JPEG or WebP"))
    return side


def _has_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES for item in folder.rglob("*"))


def _row(stem: str, chosen: Side, rejected: Side, parent: Path | None, split: str) -> Row:
    """The pair of one stem, or the fault that it has.

    No file of the data names these images, only the owner of the folder does, so links to files are followed.
    """
    first = (chosen.images.get(stem) or rejected.images[stem])[0]
    try:
        for side in (chosen, rejected):
            files = side.images.get(stem, [])
            if not files:
                raise ValueError(f"no partner: no image is named {stem} in {side.folder}")
            if len(files) > 1:
                raise ValueError(f"two images of one name: {some(str(file) for file in files)}; keep one")
        prompt = _caption(stem, [*_captions(stem, chosen, rejected, parent)])
    except (OSError, ValueError) as error:
        return Row(str(first), fault=str(error))
    files = [side.images[stem][0] for side in (chosen, rejected)]
    values: dict[str, str | bytes] = {"prompt": prompt}
    if split:
        values["split"] = split
    for name, file in zip(("chosen", "rejected"), files, strict=True):
        try:
            values[name] = _read_image(file)
        except (OSError, ValueError) as error:
            return Row(str(file), fault=str(error))
    return Row(BESIDE.join(map(str, files)), values)


def _read_image(file: Path) -> bytes:
    data = read_file(file, file.name)
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    return data


def _captions(stem: str, chosen: Side, rejected: Side, parent: Path | None) -> Iterator[Path]:
    yield from chosen.captions.get(stem, [])
    yield from rejected.captions.get(stem, [])
    if parent is not None:
        yield from (file for suffix in CAPTION_SUFFIXES if (file := parent / f"{stem}{suffix}").is_file())


def _caption(stem: str, files: Sequence[Path]) -> str:
    """The caption that all of the files hold."""
    if not files:
        raise ValueError(f"no caption; write {Path(stem).name}.txt (or .caption) beside the image")
    texts: dict[str, Path] = {}
    for file in files:
        try:
            text = read_file(file, file.name).decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"the caption {file} is not UTF-8 (position {error.start}); save it as UTF-8") from None
        if not text:
            raise ValueError(f"the caption {file} is empty")
        texts.setdefault(text, file)
    if len(texts) > 1:
        raise ValueError(f"two captions that differ: {' and '.join(map(str, list(texts.values())[:2]))}; keep one")
    return next(iter(texts))
