"""Prompts from files and from the built-in world."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.prompts import load_prompts


def test_prompts_of_a_file_are_its_distinct_lines_in_order(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa cat\n\n  a dog \na cat\nune forêt\n", encoding="utf-8")
    assert [prompt.text for prompt in load_prompts(str(file))] == ["a cat", "a dog", "une forêt"]
    assert [prompt.text for prompt in load_prompts(str(file), limit=2)] == ["a cat", "a dog"]


def test_prompts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("une forêt".encode("latin-1"))
    with pytest.raises(ValueError, match=r"no file '.*nowhere\.txt'; give a text file"):
        load_prompts(str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match=r"empty\.txt holds no prompt"):
        load_prompts(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8"):
        load_prompts(str(tmp_path / "latin.txt"))
    with pytest.raises(ValueError, match=r"no split 'validation'.*valid: train, tune, test"):
        load_prompts("shapes/validation")
