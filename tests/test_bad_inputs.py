"""Whatever is wrong with the input: a message that names where, what and the fix, and nothing half-written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import bad_input_cases
import bad_inputs
import command_line
import pytest
from bad_inputs import GOOD, Case, World
from command_line import Main, assert_refused
from pair_files import read

from mmpo.data.cache import TensorCache

main = command_line.main


@pytest.fixture
def world(tmp_path: Path, sd_folder: Path) -> World:
    """A folder for the case."""
    return World(tmp_path, sd_folder)


c = bad_input_cases
CASES = [*bad_inputs.ROWS, *c.TABLES, *c.FILES, *c.RECIPES, *c.KEYS]
Tree = dict[str, str]


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


def assert_nothing_half_written(root: Path, before: Tree) -> None:
    """As before, but for caches, which must be whole."""
    after = tree(root)
    assert not [name for name in after if name.endswith((".partial", ".old"))]
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    caches = {name for name in changed if "/.cache" in name}
    assert changed == caches
    for about in root.rglob(".cache/*/about.json"):
        assert_whole_cache(about.parent)


def assert_whole_cache(folder: Path) -> None:
    """Every shard of a cache can be read, and no file of another name is there."""
    cache = TensorCache.__new__(TensorCache)
    cache._rows, cache._shards, cache.dropped = {}, [], []
    for index in folder.glob("*.keys.json"):
        cache._open(index)
    assert not cache.dropped
    assert all(file.name.endswith((".keys.json", ".safetensors")) or file.name == "about.json" for file in folder.iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input(case: Case, main: Main, world: World) -> None:
    arguments = case.make(world)
    before = tree(world.root)
    result = main(*arguments)
    print(result.err)
    assert_refused(result, *case.says)
    assert_nothing_half_written(world.root, before)
    if case.row:
        assert_skipped(case, main, world)


def assert_skipped(case: Case, main: Main, world: World) -> None:
    """By default the row is counted and named, and the good rows are trained on."""
    result = main(*world.train())
    assert result.code == 0, result
    assert "3 rows, left out: 1 bad" in result.out
    assert "2 training pairs, 0 held out" in result.out
    for part in case.says:
        assert part in result.out
    assert (world.run / "train.json").is_file()
