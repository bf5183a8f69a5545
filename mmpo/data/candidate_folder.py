"""A folder of images with captions in text files beside them, as rows of one image each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmpo.data.folder_pairs import IMAGE_SUFFIXES, look, pair_sides
from mmpo.data.source_files import tables_in
from mmpo.data.source_hub import is_saved
from mmpo.data.source_paths import is_local, local_path, read_file
from mmpo.data.source_rows import Row, Source


def open_captioned(path: str) -> Source | None:
    """The images below a folder, each with its caption in `x.txt` or `x.caption`; None where it is no such folder."""
    folder = local_path(path)
    if not is_local(path) or not folder.is_dir() or is_saved(folder) or tables_in(folder):
        return None
    if pair_sides(folder) is not None:
        return None
    side = look(folder)
    if not side.images or not side.captions:
        return None
    stems = sorted(side.images)

    def rows() -> Iterator[Row]:
        yield from (Row(str(file), fault=why) for file, why in side.faults)
        for stem in stems:
            yield from (_row(file, side.captions.get(stem, [])) for file in side.images[stem])

    total = len(side.faults) + sum(map(len, side.images.values()))
    return Source(f"images with captions ({', '.join(IMAGE_SUFFIXES)} and .txt)", ["image", "prompt"], rows, total)


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
