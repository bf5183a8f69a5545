"""The tensor cache: every key has its own row, also after a flush, damage or a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forks
import pytest
import torch

from mmpo.data.cache import TensorCache


def filled(folder: Path, shard_rows: int = 1024, **made_by: Any) -> tuple[TensorCache, torch.Tensor]:
    """A cache of five rows under the keys a to e, and their values."""
    cache = TensorCache(folder, "latents", {"vae": "1", **made_by}, shard_rows=shard_rows)
    values = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    cache.add(list("abc"), {"mean": values[:3], "std": values[:3].exp()})
    cache.add(list("de"), {"mean": values[3:], "std": values[3:].exp()})
    return cache, values


def assert_filled(cache: TensorCache, values: torch.Tensor) -> None:
    """Every key has its own row."""
    assert len(cache) == 5
    for key, value in zip("abcde", values, strict=True):
        assert key in cache
        row = cache.get(key)
        assert torch.equal(row["mean"], value)
        assert torch.equal(row["std"], value.exp())


@pytest.mark.parametrize(("shard_rows", "shards"), [(1024, 1), (3, 2), (1, 2)])
def test_a_cache_gives_back_what_was_added_before_and_after_a_flush(
    tmp_path: Path, shard_rows: int, shards: int
) -> None:
    cache, values = filled(tmp_path, shard_rows)
    assert_filled(cache, values)
    cache.flush()
    assert_filled(cache, values)
    assert_filled(TensorCache(tmp_path, "latents", {"vae": "1"}), values)
    assert len(list(tmp_path.rglob("*.safetensors"))) == shards


def print_sum_and_whether_mapped(folder: Path) -> None:
    """What another process sees of the cache that `filled` made."""
    cache = TensorCache(folder, "latents", {"vae": "1"})
    print(cache.get("d")["mean"].double().sum().item())
    maps = Path("/proc/self/maps")
    print(not maps.exists() or str(cache.folder) in maps.read_text())


def test_a_new_process_reads_the_cache_from_mapped_files(tmp_path: Path) -> None:
    cache, values = filled(tmp_path)
    cache.flush()
    done = forks.call(print_sum_and_whether_mapped, tmp_path)
    total, mapped = done.out.split()
    assert float(total) == values[3].double().sum().item()
    assert mapped == "True"


def test_a_key_that_was_never_added_is_a_key_error(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path)
    assert "z" not in cache
    with pytest.raises(KeyError):
        cache.get("z")


def test_other_weights_never_see_this_cache(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path)
    cache.flush()
    other = TensorCache(tmp_path, "latents", {"vae": "2"})
    text = TensorCache(tmp_path, "text", {"vae": "1"})
    assert len(other) == len(text) == 0
    assert len({cache.folder, other.folder, text.folder}) == 3
    assert json.loads((other.folder / "about.json").read_text()) == {"kind": "latents", "vae": "2"}


@pytest.mark.parametrize("damage", ["cut", "gone", "cut index", "fewer keys"])
def test_a_damaged_shard_is_dropped_and_can_be_computed_again(tmp_path: Path, damage: str) -> None:
    cache, values = filled(tmp_path, shard_rows=3)
    cache.flush()
    index = next(file for file in cache.folder.glob("*.keys.json") if json.loads(file.read_text()) == list("abc"))
    tensors = index.with_name(index.name.replace(".keys.json", ".safetensors"))
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-20])
    elif damage == "gone":
        tensors.unlink()
    else:
        index.write_text('["a", "b' if damage == "cut index" else '["a", "b"]')
    again = TensorCache(tmp_path, "latents", {"vae": "1"}, shard_rows=3)
    assert ["a" in again, "c" in again, "d" in again, "e" in again] == [False, False, True, True]
    assert len(again.dropped) == 1
    assert tensors.name in again.dropped[0]
    again.add(list("abc"), {"mean": values[:3], "std": values[:3].exp()})
    again.flush()
    whole = TensorCache(tmp_path, "latents", {"vae": "1"})
    assert_filled(whole, values)
    assert not whole.dropped


def test_tensors_without_their_list_of_keys_do_not_count(tmp_path: Path) -> None:
    """The list of keys is written last: a kill between the two files leaves a shard that is not one."""
    cache, _ = filled(tmp_path)
    cache.flush()
    for index in cache.folder.glob("*.keys.json"):
        index.unlink()
    again = TensorCache(tmp_path, "latents", {"vae": "1"})
    assert len(again) == 0
    assert not again.dropped
