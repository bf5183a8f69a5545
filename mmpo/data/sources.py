"""What stands at `data.path`, and how it is read."""

from __future__ import annotations

from pathlib import Path

from mmpo.data.folder_pairs import SIDES, open_folders, pair_sides, refuse_lone_side
from mmpo.data.source_files import of_split, open_files, tables_in
from mmpo.data.source_hub import ARCHIVES, is_saved, open_folder, open_hub, open_saved
from mmpo.data.source_paths import found_in, is_local, is_pattern, local_path, matching, visible_files
from mmpo.data.source_rows import Source


def open_source(path: str, *, split: str | None = None, rejected: str | None = None, streaming: bool = True) -> Source:
    """The rows at a path: table files, image folders, a saved data set, or a data set on the hub.

    Raises:
        ValueError: nothing that can be read; says what was found and what each layout needs.
    """
    if rejected is not None:
        chosen, other = local_path(path), local_path(rejected)
        _refuse_split(split)
        same_parent = chosen.resolve().parent == other.resolve().parent
        return open_folders(chosen, other, chosen.parent if same_parent else None)
    if not is_local(path):
        return open_hub(path, split, streaming)
    place = local_path(path)
    if is_pattern(path):
        files = matching(path)
        return open_files(of_split(files, Path(files[0].anchor), split) if split else files)
    if place.is_file():
        return open_files(of_split([place], place.parent, split))
    if not place.is_dir():
        raise ValueError(f"data.path {path}: no such file or folder")
    return _open_folder(place, split)


def _open_folder(folder: Path, split: str | None) -> Source:
    """A table at the top of a folder wins over image folders, since it may name the images in them."""
    if is_saved(folder):
        return open_saved(folder, split)
    tables = tables_in(folder)
    if not any(file.parent == folder for file in tables):
        sides = pair_sides(folder)
        if sides is not None:
            _refuse_split(split)
            return open_folders(*sides, folder)
    if tables:
        return open_files(of_split(tables, folder, split))
    refuse_lone_side(folder)
    if any(file.name.lower().endswith(ARCHIVES) for file in visible_files(folder)):
        return open_folder(folder, split)
    raise ValueError(
        f"data.path {folder}: no preference data in it; found: {found_in(folder)}. It can be: .parquet, .jsonl or .csv "
        f"files (or one .json); two folders of images with equal names ({', '.join(f'{w}/ and {x}/' for w, x in SIDES)}"
        "; or any two with data.rejected) and captions in .txt files; what datasets' save_to_disk writes; "
        f"{', '.join(ARCHIVES)} files that datasets loads"
    )


def _refuse_split(split: str | None) -> None:
    if split is not None:
        raise ValueError(f"data.split: image folders have no split '{split}'; leave data.split out")
