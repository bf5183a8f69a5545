"""Folders of images as pairs: partners, captions, and what is left out by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pair_files import PAIR, A, B, contents, read, write, write_images, write_lines, write_sides

from mmpo.data.folder_pairs import SIDES
from mmpo.data.images import decode
from mmpo.data.readers import check_first, open_pairs


@pytest.mark.parametrize("sides", SIDES, ids=["/".join(names) for names in SIDES])
@pytest.mark.parametrize("caption", [".txt", ".caption"])
def test_subfolders_of_each_name_are_pairs(tmp_path: Path, sides: tuple[str, str], caption: str) -> None:
    groups, report = read(write_sides(tmp_path, {"1": "a red cat\n", "2": "a dog"}, sides, caption))
    assert contents(groups) == [[A, B], [A, B]]
    assert [group.prompt.text for group in groups] == ["a red cat", "a dog"]
    assert report.counts == {"rows": 2, "pairs": 2}
    assert report.total == 2
    assert groups[0].source == f"{tmp_path / sides[0] / '1.png'} | {tmp_path / sides[1] / '1.png'}"
    plain, _ = read(write(tmp_path / "parquet", [PAIR]))
    assert groups[0].id == plain[0].id


def test_two_folders_of_any_name_are_pairs(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat", "sub/2": "a dog"}, ("tuned", "base"))
    groups, _ = read(tmp_path / "tuned", rejected=str(tmp_path / "base"))
    assert contents(groups) == [[A, B]] * 2
    turned, report = read(tmp_path / "base", rejected=str(tmp_path / "tuned"))
    assert contents(turned) == [[B, A]] * 2  # the captions stand beside the images that are rejected now
    assert report.counts["pairs"] == 2


def test_nested_folders_and_other_suffixes_are_matched_by_stem(tmp_path: Path) -> None:
    write_sides(tmp_path, {"birds/1.v2": "a red bird", "1": "a red cat"})
    (tmp_path / "l" / "1.png").rename(tmp_path / "l" / "1.PNG")
    (tmp_path / "l" / "birds" / "1.v2.png").unlink()
    decode(B).save(tmp_path / "l" / "birds" / "1.v2.webp")
    groups, report = read(tmp_path)
    assert [group.prompt.text for group in groups] == ["a red cat", "a red bird"]
    assert report.counts == {"rows": 2, "pairs": 2}


def test_captions_stand_beside_either_image_or_in_the_parent_folder(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": None, "2": None, "3": "a red fox"})
    (tmp_path / "l" / "1.txt").write_text("a red cat")
    (tmp_path / "2.txt").write_text("\ufeffa red dog", encoding="utf-8")
    (tmp_path / "3.caption").write_text("a red fox\n")
    groups, report = read(tmp_path)
    assert [group.prompt.text for group in groups] == ["a red cat", "a red dog", "a red fox"]
    assert report.counts == {"rows": 3, "pairs": 3}


def break_partner(folder: Path) -> None:
    (folder / "l" / "2.png").unlink()


def break_other_partner(folder: Path) -> None:
    (folder / "w" / "2.png").unlink()


def break_caption(folder: Path) -> None:
    (folder / "w" / "2.txt").unlink()


def empty_caption(folder: Path) -> None:
    (folder / "w" / "2.txt").write_text(" \n")


def latin_caption(folder: Path) -> None:
    (folder / "w" / "2.txt").write_bytes(b"caf\xe9")


def two_captions(folder: Path) -> None:
    (folder / "l" / "2.caption").write_text("a blue dog")


def two_images(folder: Path) -> None:
    decode(A).save(folder / "w" / "2.jpg")


def same_images(folder: Path) -> None:
    (folder / "l" / "2.png").write_bytes(A)


def empty_image(folder: Path) -> None:
    (folder / "l" / "2.png").write_bytes(b"")


def broken_link(folder: Path) -> None:
    (folder / "l" / "2.png").unlink()
    (folder / "l" / "2.png").symlink_to(folder.parent / "outside.png")


FAULTS = [
    (break_partner, r"w/2\.png: no partner: no image is named 2 in .*l"),
    (break_other_partner, r"l/2\.png: no partner: no image is named 2 in .*w"),
    (break_caption, r"w/2\.png: no caption; write 2\.txt"),
    (empty_caption, r"w/2\.png: the caption .*w/2\.txt is empty"),
    (latin_caption, r"the caption .*w/2\.txt is not UTF-8"),
    (two_captions, r"two captions that differ: .*w/2\.txt and .*l/2\.caption"),
    (two_images, r"two images of one name: .*w/2\.jpg, .*w/2\.png"),
    (same_images, "same image"),
    (empty_image, r"^\S*l/2\.png: the image is empty \(0 bytes\)"),
    (broken_link, r"^\S*l/2\.png: 2\.png is a link to \S*outside\.png, and no file is there"),
]


@pytest.mark.parametrize(("damage", "says"), FAULTS, ids=[damage.__name__ for damage, _ in FAULTS])
def test_a_pair_that_is_not_whole_is_named_and_counted(tmp_path: Path, damage: object, says: str) -> None:
    folder = write_sides(tmp_path / "pairs", {"1": "a red cat", "2": "a dog", "3": "a fox"})
    assert callable(damage)
    damage(folder)
    groups, report = read(folder)
    assert [group.prompt.text for group in groups] == ["a red cat", "a fox"]
    assert report.counts == {"rows": 3, "pairs": 2, "bad": 1}
    with pytest.raises(ValueError, match=says):
        read(folder, on_bad_row="error")


def test_images_that_are_not_read_and_linked_folders_are_named(tmp_path: Path) -> None:
    folder = write_sides(tmp_path / "pairs", {"1": "a red cat"})
    (folder / "w" / "2.heic").write_bytes(b"x")
    (folder / "w" / "more").symlink_to(tmp_path)
    groups, report = read(folder)
    assert len(groups) == 1
    assert report.counts["bad"] == 2
    assert any("2.heic: .heic images are not read" in message for message in report.bad)
    assert any("more: a link to a folder" in message for message in report.bad)


def test_links_to_images_elsewhere_are_followed(tmp_path: Path) -> None:
    """The owner of the folder made them; a table's paths are another matter, since others may have written them."""
    folder, store = write_sides(tmp_path / "pairs", {"1": "a red cat"}), tmp_path / "store"
    store.mkdir()
    for side in ("w", "l"):
        (folder / side / "1.png").rename(store / f"{side}.png")
        (folder / side / "1.png").symlink_to(store / f"{side}.png")
    (folder / "w" / "1.txt").rename(store / "caption")
    (folder / "w" / "1.txt").symlink_to(store / "caption")
    groups, report = read(folder)
    assert contents(groups) == [[A, B]]
    assert not report.left_out


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    folder = write_sides(tmp_path, {"1": "a red cat"})
    write_sides(folder, {".2": None, ".thumbs/3": None})
    (folder / "w" / ".DS_Store").write_bytes(b"x")
    write(folder / ".cache", [PAIR])
    assert read(folder)[1].counts == {"rows": 1, "pairs": 1}


def test_no_pair_of_equal_names_lists_both_sides(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat"})
    (tmp_path / "l" / "1.png").rename(tmp_path / "l" / "one.png")
    with pytest.raises(ValueError, match=r"no image pairs: .*found 1 and one"):
        read(tmp_path)


def test_one_side_alone_says_which_is_missing(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat"}, ("chosen", "other"))
    with pytest.raises(ValueError, match=r"images in chosen/ but no folder rejected/ beside it; found chosen/, other/"):
        read(tmp_path)


def test_two_couples_of_folders_are_refused(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat"})
    write_sides(tmp_path, {"1": "a red cat"}, ("good", "bad"))
    with pytest.raises(ValueError, match="holds w/ with l/ and good/ with bad/; name one"):
        read(tmp_path)


def test_the_second_folder_must_be_there_and_another(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat"})
    with pytest.raises(ValueError, match=r"data\.rejected .*absent: no such folder"):
        read(tmp_path / "w", rejected=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"data\.path .*absent: no such folder"):
        read(tmp_path / "absent", rejected=str(tmp_path / "l"))
    with pytest.raises(ValueError, match=r"data\.rejected .*w: is data\.path itself"):
        read(tmp_path / "w", rejected=str(tmp_path / "w"))
    with pytest.raises(ValueError, match="image folders have no split"):
        read(tmp_path / "w", rejected=str(tmp_path / "l"), split="train")
    with pytest.raises(ValueError, match="image folders have no split"):
        read(tmp_path, split="train")


def test_a_table_at_the_top_wins_over_folders_of_images(tmp_path: Path) -> None:
    write_sides(tmp_path, {"1": "a red cat", "2": "a dog"})
    write_lines(tmp_path, [{"prompt": "turned", "chosen_file_name": "l/1.png", "rejected_file_name": "w/1.png"}])
    groups, _ = read(tmp_path)
    assert contents(groups) == [[B, A]]


STRAY = {
    "notes.csv": "name,remark\n1,good\n",
    "meta.json": '{\n "author": "me"\n}\n',
    "list.json": "[1, 2]",
    "metadata.jsonl": '{"file_name": "w/1.png", "text": "a red cat"}\n',
    "empty.csv": "",
    "broken.parquet": "PAR1, it says",
}


@pytest.mark.parametrize("name", STRAY)
def test_a_stray_table_does_not_hide_the_folders_of_images(tmp_path: Path, name: str) -> None:
    folder = write_sides(tmp_path, {"1": "a red cat"})
    (folder / name).write_text(STRAY[name])
    groups, report = read(folder)
    assert contents(groups) == [[A, B]]
    assert f"{name} in {folder} is left out: " in report.note
    for options in ({"format": "pick_a_pic"}, {"columns": {"prompt": "remark"}}, {"split": "train"}):
        with pytest.raises(ValueError, match=re.escape(name.partition(".")[0]) + "|image folders|found the columns"):
            read(folder, **options)


def test_a_table_that_was_left_out_is_named_where_nothing_is_left(tmp_path: Path) -> None:
    """The captions were in the table, under a name that we do not know."""
    folder = write_sides(tmp_path, {"1": None})
    (folder / "captions.csv").write_text("file,words\n1.png,a red cat\n")
    with pytest.raises(ValueError, match=r"(?s)captions\.csv in .*columns \(file, words\).*no caption; write 1\.txt"):
        check_first(open_pairs(str(folder)), str(folder))


def test_a_table_of_no_format_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("name,remark\n1,good\n")
    with pytest.raises(ValueError, match=r"notes\.csv: found the columns name, remark; pairs needs"):
        read(tmp_path)


def test_folders_of_pairs_below_are_read_with_their_names_as_splits(tmp_path: Path) -> None:
    """What `mmpo data convert --to folders` writes of data with splits."""
    write_sides(tmp_path / "train", {"1": "a red cat"})
    write_sides(tmp_path / "validation_unique", {"1": "a dog"}, ("chosen", "rejected"))
    groups, report = read(tmp_path)
    assert [(group.prompt.text, group.prompt.split) for group in groups] == [
        ("a red cat", "train"),
        ("a dog", "validation_unique"),
    ]
    assert report.total == 2
    assert open_pairs(str(tmp_path)).source.layout == "image folders in train/, validation_unique/"
    only, _ = read(tmp_path, split="train")
    assert [group.prompt.split for group in only] == ["train"]
    with pytest.raises(ValueError, match=r"no folder of .* is named 'test'; image folders are in train, validation_u"):
        read(tmp_path, split="test")
    (tmp_path / "notes.csv").write_text("name,remark\n1,good\n")
    assert len(read(tmp_path)[0]) == 2
    assert len(read(tmp_path, split="train")[0]) == 1


def test_folders_below_whose_names_are_no_splits_have_none(tmp_path: Path) -> None:
    """Else the rows of `birds` would be held out."""
    write_sides(tmp_path / "birds", {"1": "a red bird"})
    assert [group.prompt.split for group in read(tmp_path)[0]] == [""]
    write_sides(tmp_path / "cats", {"1": "a red cat"})
    assert [group.prompt.split for group in read(tmp_path)[0]] == ["", ""]


def test_a_folder_of_images_that_is_no_pair_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no preference data in it; found: images/\..*w/ and l/.*data\.rejected"):
        read(write_images(tmp_path))
