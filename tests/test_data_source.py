"""What the data commands read: data, or a recipe's data section; and where they refuse to write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pair_files import PAIR, PICK_A_PIC, write
from tiny import recipe_tree

from mmpo.data.readers import ReadReport
from mmpo.recipe_files import dump, validate
from pipelines.data_output import check_output, new_folder
from pipelines.data_source import bad_lines, is_recipe, locate


def recipe_at(folder: Path, data: Path, **changes: object) -> Path:
    """A recipe file over data."""
    folder.mkdir(exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(dump(validate(recipe_tree(Path("some/checkpoint"), data, folder / "run", **changes))))
    return file


def test_a_path_is_data(pairs_folder: Path) -> None:
    source = locate(str(pairs_folder), limit=3)
    assert (source.path, source.options, source.model, source.recipe) == (str(pairs_folder), {"limit": 3}, "", "")
    assert len(list(source.read(ReadReport()))) == 3
    assert source.format == "pairs"


def test_a_recipe_gives_its_data_and_model(tmp_path: Path, pairs_folder: Path) -> None:
    file = recipe_at(tmp_path / "run", pairs_folder, data__limit=5, data__resolution=64, data__format="pairs")
    for name in (file, file.parent):
        source = locate(str(name))
        assert (source.path, source.model, source.resolution) == (str(pairs_folder), "some/checkpoint", 64)
        assert source.options == {"limit": 5, "format": "pairs"}
        assert source.recipe == str(name)
        assert not source.made


def test_the_command_line_wins_over_the_recipe(tmp_path: Path, pairs_folder: Path) -> None:
    file = recipe_at(tmp_path / "run", pairs_folder, data__limit=5)
    assert locate(str(file), limit=2, split="test").options == {"limit": 2, "split": "test"}


def test_data_that_a_recipe_has_yet_to_make_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_recipe("shapes_diffusion_dpo")
    with pytest.raises(ValueError, match="not made yet; first run: mmpo train shapes_diffusion_dpo"):
        locate("shapes_diffusion_dpo")


def test_data_that_a_recipe_made_is_known_as_such(tmp_path: Path, pairs_folder: Path) -> None:
    """The folder that a split writes was not made by the recipe, so it must not be compared with its settings."""
    make = {"prompts": "shapes/train", "reward": "shapes"}
    assert locate(str(recipe_at(tmp_path / "run", pairs_folder, data__make=make))).made


def test_a_misspelt_recipe_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(ValueError, match="did you mean 'shapes_diffusion_dpo'"):
        locate("shapes_difusion_dpo")
    assert not is_recipe("someone/pairs")
    assert not is_recipe("no_such_pairs.parquet")


def test_columns_of_other_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", [{"text": "a cat", "chosen": PAIR["chosen"], "rejected": PAIR["rejected"]}])
    source = locate(str(folder), columns=["prompt=text"])
    assert [group.prompt.text for group in source.read(ReadReport())] == ["a cat"]
    assert source.format == "pairs"
    with pytest.raises(ValueError, match="expected OURS=THEIRS"):
        locate(str(folder), columns=["prompt"])
    with pytest.raises(ValueError, match="'prompt' was given before as a"):
        locate(str(folder), columns=["prompt=a", "prompt=b"])


def test_what_was_left_out_is_listed_shortly(tmp_path: Path) -> None:
    rows = [PICK_A_PIC, {**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}]
    rows += [{**PICK_A_PIC, "caption": ""} for _ in range(30)]
    report = ReadReport()
    assert len(list(locate(str(write(tmp_path / "d", rows))).read(report))) == 1
    lines = list(bad_lines(report))
    assert lines[0].startswith("left out, ties: 1")
    assert lines[1] == "left out, bad rows: 30"
    assert "row 2" in lines[2]
    assert lines[-1] == "  and 25 more"
    assert len(lines) == 8
    assert list(bad_lines(ReadReport())) == []


def test_output_never_touches_what_is_there(tmp_path: Path, pairs_folder: Path) -> None:
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    full.mkdir()
    (full / "x").write_text("x")
    file.write_text("x")
    empty.mkdir()
    link = tmp_path / "link"
    link.symlink_to(pairs_folder)
    for output in (full, file, pairs_folder, pairs_folder / "deep" / "er", link / "out", pairs_folder / ".." / "pairs"):
        with pytest.raises(ValueError, match=r"holds something|is a file|lies inside"):
            check_output(output, [str(pairs_folder)])
    check_output(empty, [str(pairs_folder)])
    check_output(tmp_path / "new", ["someone/pairs"])


def write_then_raise(output: Path, error: Exception) -> None:
    """Half a folder."""
    with new_folder(output, []) as folder:
        (folder / "half").write_text("half")
        raise error


def test_an_error_leaves_nothing_and_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        write_then_raise(tmp_path / "out", OSError(28, "No space left on device"))
    assert caught.value.filename == str(tmp_path / "out")
    with pytest.raises(ValueError, match="bad"):
        write_then_raise(tmp_path / "out", ValueError("bad"))
    assert os.listdir(tmp_path) == []
    with new_folder(tmp_path / "out", []) as folder:
        (folder / "whole").write_text("whole")
    assert os.listdir(tmp_path / "out") == ["whole"]
