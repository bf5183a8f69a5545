"""Whatever is wrong with the input: a message that names where, what and the fix, and nothing half-written."""

from __future__ import annotations

import builtins
import errno
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_input_cases as commands
import bad_inputs
import command_line
import numpy as np
import pytest
import safetensors.torch
from bad_inputs import GOOD, Case, World
from command_line import Main, assert_refused
from odd_inputs import ODD_IMAGES, ODD_TEXTS, OddImage, OddText
from pair_files import read
from safetensors import SafetensorError, safe_open

from mmpo.training import checkpoints
from pipelines import prepare

main = command_line.main
CASES = [
    *bad_inputs.ROWS,
    *commands.TABLES,
    *commands.FILES,
    *commands.RECIPES,
    *commands.KEYS,
    *commands.PROMPTS,
    *commands.PLACES,
    *commands.FULL,
]
Tree = dict[str, str]


@pytest.fixture
def world(tmp_path: Path, sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A folder for the case. Its subfolder `closed` may not be written to, even by a user who may do everything."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and Path(path) != tmp_path / "closed")
    return World(tmp_path, sd_folder)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input(case: Case, main: Main, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = case.make(world)
    before = tree(world.root)
    with monkeypatch.context() as disk:
        if case.full:
            fill(disk, case.full.format(pid=os.getpid()))
        result = main(*arguments)
    print(result.err)
    assert_refused(result, *case.says)
    assert_nothing_half_written(world, before, begun=bool(case.full))
    if case.row:
        assert_skipped(main, case, world)
    if case.full:
        again = main(*arguments, *case.again)
        assert again.code == 0, again


def assert_skipped(main: Main, case: Case, world: World) -> None:
    """By default the row is counted and named, and the good rows are used; trained on, where it shows in decoding."""
    command = world.train() if case.decoded else ["data", "split", world.data, world.root / "out", "--test", "0.5"]
    result = main(*command)
    assert result.code == 0, result
    assert "Traceback" not in result.out + result.err
    for part in case.says:
        assert part in result.out
    if case.decoded:
        assert "3 rows, left out: 1 bad" in result.out
        assert "2 training pairs, 0 held out" in result.out
        assert (world.run / "train.json").is_file()
        return
    assert "left out, bad rows: 1\n" in result.out
    groups, report = read(world.root / "out")
    assert {group.prompt.text for group in groups} == set(GOOD)
    assert not report.left_out


def test_a_run_names_every_bad_image_and_trains_on_the_others(main: Main, world: World) -> None:
    """The default: what is skipped must not hide what comes after it."""
    broken = bad_inputs.BROKEN_IMAGES
    changes = [{}, *({"rejected": image.data} for image in broken), {}]
    bad_inputs.write_rows(world, [{**bad_inputs.PAIR, "prompt": f"a cat {n}"} | row for n, row in enumerate(changes)])
    result = main(*world.train())
    assert result.code == 0, result
    assert f"{len(broken) + 2} rows, left out: {len(broken)} bad" in result.out
    assert "2 training pairs, 0 held out" in result.out
    said = {
        line.partition(", row ")[2].partition(",")[0]: line for line in result.out.splitlines() if "warning" in line
    }
    for number, image in enumerate(broken, 1):
        assert "pairs.parquet" in said[str(number)]
        for part in image.says:
            assert part in said[str(number)]
    assert (world.run / "train.json").is_file()


@pytest.mark.parametrize("case", ODD_IMAGES, ids=lambda case: case.name)
def test_an_odd_image_is_trained_on_upright_and_in_its_colours(
    case: OddImage, main: Main, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at where the VAE gets it: the pixels of the corners, top left, top right, bottom left, bottom right."""
    given: list[Any] = []
    encode = prepare.encode_images
    monkeypatch.setattr(prepare, "encode_images", lambda vae, pixels: given.append(pixels) or encode(vae, pixels))
    bad_inputs.among_good_rows(world, {"rejected": case.data}, bad_inputs.PAIR)
    result = main(*world.train())
    assert result.code == 0, result
    assert "3 training pairs, 0 held out" in result.out
    pixels = (given[0][3].numpy() + 1) * 127.5  # chosen and rejected of the first row, chosen, and this one
    corners = [pixels[:, y, x] for y in (1, -2) for x in (1, -2)]
    assert np.abs(np.array(corners) - np.array(case.corners)).max() <= case.tolerance


@pytest.mark.parametrize("case", ODD_TEXTS, ids=lambda case: case.name)
def test_an_odd_text_is_read_as_it_is_meant(case: OddText, main: Main, world: World) -> None:
    case.make(world)
    result = main(*world.train())
    assert result.code == 0, result
    assert "3 training pairs, 0 held out" in result.out
    groups, report = read(world.data)
    assert {group.prompt.text for group in groups} == {*GOOD, case.reads}
    assert not report.left_out


def tree(root: Path) -> Tree:
    """Every file, link and folder below a folder, with what it holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def assert_nothing_half_written(world: World, before: Tree, *, begun: bool) -> None:
    """All is as before but for whole caches and, where a run had begun, its recipe, log and whole checkpoints."""
    after = tree(world.root)
    assert not [name for name in after if name.endswith((".partial", ".old")) or "/.lora-" in name]
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    allowed = {name for name in changed if "/.cache" in name}
    if begun:
        log = {"run", "run/recipe.yaml", "run/metrics.jsonl", "run/pytorch_lora_weights.safetensors"}
        allowed |= {name for name in changed if name in log or name.startswith("run/checkpoint-")}
    assert changed == allowed
    for cache in {path.parent for path in world.root.rglob(".cache/*/*.json")}:
        assert_whole_cache(cache)
    for folder in checkpoints.list_checkpoints(world.run):
        if f"run/{folder.name}" in changed:
            checkpoints.load_checkpoint(folder)


def assert_whole_cache(folder: Path) -> None:
    """Whatever is there can be read, and only that is there."""
    for file in folder.iterdir():
        assert file.name == "about.json" or file.name.endswith((".keys.json", ".safetensors"))
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                assert opened.keys()


def fill(disk: pytest.MonkeyPatch, part: str) -> None:
    """From now on a file whose path holds `part` gets half of what is written to it, as on a full disk."""
    opened, saved = io.open, safetensors.torch.save_file

    def open_on_full_disk(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        handle = opened(file, mode, *args, **options)
        return Full(handle) if part in str(file) and set(mode) & set("wax") else handle

    def save_on_full_disk(tensors: Any, file: Any, metadata: Any = None) -> None:
        if part not in str(file):
            return saved(tensors, file, metadata)
        Path(file).touch()
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    disk.setattr(builtins, "open", open_on_full_disk)
    disk.setattr(io, "open", open_on_full_disk)  # what `Path.open` and `Path.write_text` call
    disk.setattr(checkpoints, "save_file", save_on_full_disk)
    disk.setattr(safetensors.torch, "save_file", save_on_full_disk)  # what diffusers calls


class Full:
    """A file on a disk that is full; the system's error names no file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        """Half of it arrives."""
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._file, name)
