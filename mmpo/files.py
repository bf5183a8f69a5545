"""Writing so that a kill leaves the old file or the new one, never half of either."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors words what the system said


def write_bytes(file: Path, data: bytes) -> None:
    """Temporary file, fsync, rename.

    Raises:
        OSError: such as a full disk; it names `file`, which is then as it was before.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with naming(partial, file):
            with open(partial, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(partial, file)
            sync_folder(file.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_json(file: Path, value: Any) -> None:
    """`value` as indented JSON, written as `write_bytes` does."""
    write_bytes(file, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def drop_partials(folder: Path) -> None:
    """Removes the temporary files that writers left below a folder when they were killed; not those of live processes.

    Two calls may write into one folder at a time.
    """
    for left in folder.rglob(".*.partial"):
        writer = left.name.split(".")[-2]
        if left.is_file() and not (writer.isdigit() and _lives(int(writer))):
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


@contextmanager
def naming(partial: Path, final: Path) -> Iterator[None]:
    """Gives an OSError of the block the name that a reader knows.

    A full disk names no file, safetensors raises an error of its own kind, and what is named may be below `partial`,
    which is gone when the message is read.

    Args:
        partial: the temporary file or folder that is written.
        final: what it becomes.
    """
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str | Path) else partial
        if error.filename is not None and not named.is_relative_to(partial):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(final / named.relative_to(partial))) from error
    except Exception as error:
        number = _OS_ERROR.search(str(error)) if type(error).__name__ == "SafetensorError" else None
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(final)) from error


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` when the block ends without an error.

    Raises:
        OSError: such as a full disk; it names `folder` or a file in it, and `folder` is then as it was before.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    for old in folder.parent.glob(f".{folder.name}.*.old"):  # a kill came between the two renames below
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        with naming(partial, folder):
            partial.mkdir()
            yield partial
            for file in sorted(partial.rglob("*")):
                if file.is_file():
                    with open(file, "rb") as handle:
                        os.fsync(handle.fileno())
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
