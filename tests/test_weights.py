"""Weights by path, by name of the built-in world, by hub name; what identifies them, and what cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from mmpo.shapes.checkpoints import checkpoint_path
from rewards.weight_files import read_state_dict, weight_file
from rewards.weight_places import hub_file, local_place
from rewards.weights_hash import file_hash, weights_identity

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model_folder(folder: Path) -> Path:
    """What counts and what does not, in a folder of a model."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "train.json").write_text("{}")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one repository of two files."""
    place = tmp_path / "hub" / "models--owner--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    torch.save({"state_dict": {"a": torch.ones(2)}}, snapshot / "head.pt")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_folder_is_what_is_in_it_wherever_it_stands(tmp_path: Path) -> None:
    one, two = model_folder(tmp_path / "a"), model_folder(tmp_path / "b" / "c")
    first = weights_identity(str(one))
    assert first.startswith("sha256:")
    assert first == weights_identity(str(two))
    (two / "train.json").write_text('{"loss": 1}')
    assert first == weights_identity(str(two))
    (two / "tokenizer_config.json").write_text('{"lower": true}')
    assert first != weights_identity(str(two))
    (one / "model.safetensors").write_bytes(b"other weights")
    assert weights_identity(str(one)) not in (first, weights_identity(str(two)))


def test_a_file_is_its_hash_and_the_built_in_world_is_local(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"abc")
    assert weights_identity(str(file)) == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert local_place("shapes/sd") == checkpoint_path("sd")


def test_what_comes_from_the_hub_is_its_commit(cache: Path) -> None:
    assert weights_identity("owner/name") == f"owner/name@{COMMIT}"
    assert weights_identity("owner/name/head.pt") == f"owner/name/head.pt@{COMMIT}"
    assert weights_identity("owner/name", "v9") == "owner/name@v9"
    assert weights_identity("someone/else") == "someone/else@main"


def test_a_file_on_the_hub_is_found_and_read(cache: Path) -> None:
    assert hub_file("owner/name/sub/head.pt") == ("owner/name", "sub/head.pt")
    assert hub_file("owner/name") is None
    file = weight_file("owner/name/head.pt", sha256=file_hash(cache / "head.pt").upper())
    assert file is not None
    assert torch.equal(read_state_dict(file)["a"], torch.ones(2))
    assert weight_file("owner/name") is None
    with pytest.raises(ValueError, match=r"owner/name/none\.pt: no such file here, and none\.pt of owner/name cannot"):
        weight_file("owner/name/none.pt")


def test_a_pin_that_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"abc")
    with pytest.raises(ValueError, match=f"sha256 is {hashlib.sha256(b'abc').hexdigest()}, pinned is 00"):
        weight_file(str(file), sha256="00")
    with pytest.raises(ValueError, match="pins a single file"):
        weight_file(str(tmp_path), sha256="00")


def test_only_tensors_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        assert torch.equal(read_state_dict(tmp_path / name)["a"], tensors["a"])
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-4])
    (tmp_path / "half.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:200])
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("module.pt", "half.safetensors", "half.pt", "empty.pt"):
        with pytest.raises(ValueError, match="cannot be read as tensors"):
            read_state_dict(tmp_path / name)
    torch.save({"a": 3}, tmp_path / "numbers.pt")
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_state_dict(tmp_path / "numbers.pt")
