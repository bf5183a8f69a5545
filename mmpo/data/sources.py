"""What stands at `data.path`, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmpo.data.folder_pairs import SIDES, couples_below, open_couples, open_folders, pair_sides, refuse_lone_side
from mmpo.data.format_columns import listed
from mmpo.data.source_files import of_split, open_files, tables_in
from mmpo.data.source_generated import is_generated, open_generated
from mmpo.data.source_hub import ARCHIVES, is_saved, open_folder, open_hub, open_saved
from mmpo.data.source_paths import found_in, is_local, is_pattern, local_path, matching, opener, visible_files
from mmpo.data.source_rows import Source, short

Check = Callable[[Source], object]


def open_source(
    path: str,
    *,
    split: str | None = None,
    rejected: str | None = None,
    streaming: bool = True,
    check: Check | None = None,
    only: Sequence[str] | None = None,
) -> Source:
    """The rows at a path: table files, image folders, a saved data set, or a data set on the hub.

    Args:
        check: raises ValueError where no format fits the columns; image folders beside such a table are read in its
            place. None: a table is what is meant.
        only: columns that are wanted of a data set on the hub; None: all.
    Raises:
        ValueError: nothing that can be read; says what was found and what each layout needs.
    """
    if rejected is not None:
        chosen, other = local_path(path), local_path(rejected)
        _refuse_split(split)
        same_parent = chosen.resolve().parent == other.resolve().parent
        return open_folders(chosen, other, chosen.parent if same_parent else None)
    if not is_local(path):
        return open_hub(path, split, streaming, only)
    place = local_path(path)
    if is_pattern(path):
        files = matching(path)
        return open_files(of_split(files, Path(files[0].anchor), split) if split else files)
    if place.is_file():
        return open_files(of_split([place], place.parent, split))
    if not place.is_dir():
        raise ValueError(f"data.path {path}: no such file or folder")
    return _open_folder(place, split, check)


def images_in(source: Source, images: str) -> Source:
    """The same rows, whose image paths are relative to another folder and stay inside it.

    Raises:
        ValueError: there is no such folder.
    """
    folder = local_path(images)
    if not folder.is_dir():
        raise ValueError(f"data.images {images}: no such folder; name the one that image paths are relative to")
    open_file = opener(folder)
    return replace(source, rows=lambda: (replace(row, open_file=open_file) for row in source.rows()))


def _open_folder(folder: Path, split: str | None, check: Check | None) -> Source:
    """A table at the top of a folder wins over image folders, since it may name the images in them."""
    if is_saved(folder):
        return open_saved(folder, split)
    tables = tables_in(folder)
    if any(file.parent == folder for file in tables):
        return _open_tables(folder, tables, split, check)
    if is_generated(folder):
        return open_generated(folder)
    if pair_sides(folder) is not None or not tables:
        found = _image_folders(folder, split)
        if found is not None:
            return found
    if tables:
        return _open_tables(folder, tables, split, check)
    refuse_lone_side(folder)
    if any(file.name.lower().endswith(ARCHIVES) for file in visible_files(folder)):
        return open_folder(folder, split)
    raise ValueError(
        f"data.path {folder}: no preference data in it; found: {found_in(folder)}. It can be: .parquet, .jsonl or .csv "
        f"files (or one .json); two folders of images with equal names ({', '.join(f'{w}/ and {x}/' for w, x in SIDES)}"
        "; or any two with data.rejected) and captions in .txt files; what datasets' save_to_disk writes; "
        f"{', '.join(ARCHIVES)} files that datasets loads"
    )


def _open_tables(folder: Path, tables: Sequence[Path], split: str | None, check: Check | None) -> Source:
    """The rows of the tables where a format fits them, or else the image folders beside them, where there are some."""
    why = ""
    try:
        source = open_files(of_split(tables, folder, split))
        if check is None:
            return source
        empty = source.total == 0 or not source.columns
        why = "no rows in it" if empty else f"no format fits its columns ({listed(source.columns)})"
        check(source)
        return source
    except ValueError as error:
        meant = check is None or (split is not None and pair_sides(folder) is not None)
        folders = None if meant else _image_folders(folder, split)
        if folders is None:
            raise
        names = ", ".join(short(str(file.relative_to(folder))) for file in tables[:3])
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        return replace(folders, note=f"{names}{more} in {folder} is left out: {why or short(str(error), 300)}")


def _image_folders(folder: Path, split: str | None) -> Source | None:
    """The image folders in a folder, or in the folders in it; None where there are none."""
    sides = pair_sides(folder)
    if sides is not None:
        _refuse_split(split)
        return open_folders(*sides, folder)
    couples = couples_below(folder)
    return open_couples(folder, couples, split) if couples else None


def _refuse_split(split: str | None) -> None:
    if split is not None:
        raise ValueError(f"data.split: image folders have no split '{split}'; leave data.split out")
