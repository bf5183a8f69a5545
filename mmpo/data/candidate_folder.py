"""A folder of images with captions in text files beside them, as rows of one image each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmpo.data.folder_pairs import IMAGE_SUFFIXES, couples_below, look, pair_sides
from mmpo.data.source_files import tables_in
from mmpo.data.source_hub import is_saved
from mmpo.data.source_paths import is_local, local_path, read_file, some
from mmpo.data.source_rows import Row, Source


def open_captioned(path: str) -> Source | None:
    """The images below a folder, each with its caption in `x.txt` or `x.caption`; None where it is no such folder.

    Raises:
        ValueError: images, and not one caption.
    """
    folder = local_path(path)
    if not is_local(path) or not folder.is_dir() or is_saved(folder) or tables_in(folder):
        return None
    if pair_sides(folder) is not None or couples_below(folder):
        return None
    side = look(folder)
    if not side.captions and any(file.parent == folder for files in side.images.values() for file in files):
        raise ValueError(
            f"data.path {path}: {len(side.images):,} images and no caption; write x.txt beside x.png, or a "
            "metadata.jsonl with file_name and text"
        )
    if not side.images or not side.captions:
        return None
    stems = sorted(side.images)

    def rows() -> Iterator[Row]:
        yield from (Row(str(file), fault=why) for file, why in side.faults)
        for stem in stems:
            yield from (_row(file, side.captions.get(stem, [])) for file in side.images[stem])

    total = len(side.faults) + sum(map(len, side.images.values()))
    layout = f"images with captions ({', '.join(IMAGE_SUFFIXES)} and .txt)"
    lone = [file.name for name, files in side.captions.items() if name not in side.images for file in files]
    note = f"captions without an image of their name: {len(lone):,} ({some(lone, 3)})" if lone else ""
    return Source(layout, ["image", "prompt"], rows, total, note=note)


def _row(file: Path, captions: list[Path]) -> Row:
    if not captions:
        return Row(str(file), fault=f"no caption; write {file.stem}.txt (or .caption) beside the image")
    try:
        text = read_file(captions[0], captions[0].name).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        why = f"the caption {captions[0]} is not UTF-8 (position {error.start}); save it as UTF-8"
        return Row(str(file), fault=why)
    except (OSError, ValueError) as error:
        return Row(str(file), fault=str(error))
    return Row(str(file), {"image": file.name, "prompt": text}, lambda name: read_file(file, name))
