"""Where the data commands write: a new folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmpo.files import replace_folder
from pipelines.data_source import Source


@contextmanager
def new_folder(output: Path, sources: Sequence[str]) -> Iterator[Path]:
    """A temporary folder that becomes `output` when the block ends without an error.

    Raises:
        ValueError: see `check_output`.
        OSError: such as a full disk; it names `output`, and nothing is left there.
    """
    check_output(output, sources)
    try:
        with replace_folder(output.resolve()) as partial:
            yield partial
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(output)) from error


def check_output(output: Path, sources: Sequence[str]) -> None:
    """Refuses to write over, or into, what is there.

    Raises:
        ValueError: `output` is a file, holds something, or is or lies in one of the sources.
    """
    place = output.resolve()
    for source in sources:
        read = Path(source).expanduser().resolve()
        if read.exists() and (place == read or read in place.parents):
            raise ValueError(f"{output}: is or lies inside {source}, which is read; give a folder elsewhere")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file; give the name of a new folder")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output}: holds something already, and nothing is overwritten; give a new folder")


def check_file(output: Path, sources: Sequence[str]) -> None:
    """Refuses to write a page or figures over the data, or where a reader would take them for data.

    Raises:
        ValueError: `output` is a source, or is no page and lies in one.
    """
    place = output.resolve()
    for source in sources:
        read = Path(source).expanduser().resolve()
        if read.exists() and (place == read or (place.suffix != ".html" and read in place.parents)):
            raise ValueError(f"{output}: is or lies inside {source}, which is read; give a file elsewhere")


def places(source: Source) -> list[str]:
    """Every local place that a source is read from."""
    rejected = source.options.get("rejected")
    return [source.path, *([rejected] if rejected else [])]
