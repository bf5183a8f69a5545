"""Table files: JSON lines, JSON, CSV, parquet with paths; what is in them that is not a row, and paths that leave."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pair_files import PAIR, PICK_A_PIC, A, B, contents, read, write, write_images, write_lines

from mmpo.data import source_paths
from mmpo.data.readers import is_local, open_pairs

ROW = {"prompt": "a red cat", "chosen": "images/a.png", "rejected": "images/b.png"}
CSV = "prompt,chosen,rejected\n"


def as_jsonl(folder: Path) -> Path:
    return write_lines(folder, [ROW])


def as_json(folder: Path) -> Path:
    return write_lines(folder, [json.dumps([ROW], indent=1)], "train.json")


def as_json_lines_named_json(folder: Path) -> Path:
    return write_lines(folder, [ROW], "train.json")


def as_csv(folder: Path) -> Path:
    return write_lines(folder, [CSV + "a red cat,images/a.png,images/b.png"], "train.csv")


def as_tsv(folder: Path) -> Path:
    return write_lines(folder, ["prompt\tchosen\trejected\na red cat\timages/a.png\timages/b.png"], "train.tsv")


def as_parquet(folder: Path) -> Path:
    return write(folder, [ROW], "train") / "train.parquet"


def as_metadata(folder: Path) -> Path:
    """What the imagefolder of `datasets` reads."""
    row = {"prompt": "a red cat", "chosen_file_name": "images/a.png", "rejected_file_name": "images/b.png"}
    return write_lines(folder, [row], "metadata.jsonl")


def as_structs(folder: Path) -> Path:
    row = {**ROW, "chosen": {"bytes": None, "path": "images/a.png"}, "rejected": {"path": "images/b.png"}}
    return write_lines(folder, [row])


WRITERS = [as_jsonl, as_json, as_json_lines_named_json, as_csv, as_tsv, as_parquet, as_metadata, as_structs]


@pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("save", WRITERS, ids=[save.__name__ for save in WRITERS])
def test_every_kind_of_table_gives_the_same_pair(tmp_path: Path, save: Any, whole: bool) -> None:
    file = save(write_images(tmp_path))
    groups, report = read(tmp_path if whole else file)
    assert contents(groups) == [[A, B]]
    assert report.counts == {"rows": 1, "pairs": 1}
    assert report.total in (1, None)
    assert groups[0].source.startswith(f"{file}, ")
    plain, _ = read(write(tmp_path / "bytes", [PAIR]))
    assert groups[0].id == plain[0].id


def test_a_byte_order_mark_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    write_images(tmp_path)
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n\r\n" + json.dumps(ROW).encode())
    groups, report = read(file)
    assert len(groups) == report.counts["rows"] == report.total == 2
    assert groups[1].source == f"{file}, line 3"
    (tmp_path / "train.csv").write_bytes(b"\xef\xbb\xbf" + CSV.encode() + b'"a cat,\nred",images/a.png,images/b.png\n')
    groups, _ = read(tmp_path / "train.csv")
    assert groups[0].prompt.text == "a cat,\nred"


FAULTS: list[tuple[Any, str]] = [
    ('{"prompt": "a cat", ', r"line 2: not JSON: .*"),
    ("[1, 2]", "line 2: expected an object.*found list"),
    ("[" * 100_000, "line 2: not JSON"),
    ({**ROW, "chosen": "images/absent.png"}, r"line 2: column 'chosen': no such file: images/absent\.png, looked for"),
    ({**ROW, "chosen": "../outside.png"}, r"line 2: column 'chosen': the path \.\./outside\.png leaves the folder"),
    ({**ROW, "rejected": "images/../../outside.png"}, "column 'rejected': the path .* leaves the folder"),
    ({**ROW, "chosen": "/etc/hostname"}, "the path /etc/hostname leaves the folder"),
    ({**ROW, "chosen": "C:\\images\\a.png"}, "leaves the folder"),
    ({**ROW, "chosen": "link.png"}, "the path link.png leaves the folder"),
    ({**ROW, "chosen": "linked/outside.png"}, "the path linked/outside.png leaves the folder"),
    ({**ROW, "chosen": "loop.png"}, "column 'chosen'"),
    ({**ROW, "chosen": "images"}, "no such file: images"),
    ({**ROW, "chosen": "a\0.png"}, "NUL"),
    ({**ROW, "chosen": "x" * 5000}, r"column 'chosen' holds text of 5,000 characters, perhaps base64 \(x+…x+\); give"),
    ({**ROW, "chosen": "data:image/png;base64,iVB"}, "column 'chosen' holds text of 25 characters, a data: URL"),
    ({**ROW, "chosen": "/9j/" + "4AAQ" * 60}, "column 'chosen' holds text of 244 characters, perhaps base64"),
    ({**ROW, "chosen": "images\\a.png"}, r"no such file: images\\a\.png, looked .*write / between folders, not \\"),
    (json.dumps(ROW)[:-1] + ', "prompt": "a dog"}', "line 2: the key 'prompt' stands twice in one object"),
    (json.dumps(ROW)[:-1] + ', "scores": {"a": 1, "a": 2}}', "line 2: the key 'a' stands twice in one object"),
    ({**ROW, "chosen": "https://example.org/a.png"}, "is a URL; download"),
    ({**ROW, "chosen": ""}, "column 'chosen' is empty"),
    ({**ROW, "chosen": None}, "column 'chosen' is null"),
    ({**ROW, "chosen": 7}, "column 'chosen' holds int"),
    ({"prompt": "a cat", "chosen": "images/a.png"}, "column 'rejected' is missing; found prompt, chosen"),
]


@pytest.mark.parametrize(("line", "says"), FAULTS, ids=[str(line)[:60] for line, _ in FAULTS])
def test_a_line_that_is_no_pair_is_named_and_counted(tmp_path: Path, line: Any, says: str) -> None:
    folder = write_images(tmp_path / "data")
    (tmp_path / "outside.png").write_bytes(A)
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    file = write_lines(folder, [ROW, line, ROW])
    groups, report = read(file)
    assert len(groups) == 2
    assert report.counts == {"rows": 3, "pairs": 2, "bad": 1}
    with pytest.raises(ValueError, match=rf"train\.jsonl, .*{says}"):
        read(file, on_bad_row="error")


def test_a_path_inside_the_folder_may_have_links_and_dots(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    (tmp_path / "other").symlink_to(folder)
    (folder / "link.png").symlink_to(folder / "images" / "a.png")
    write_lines(folder, [{**ROW, "chosen": "link.png", "rejected": "images/../images/b.png"}])
    assert contents(read(tmp_path / "other" / "train.jsonl")[0]) == [[A, B]]


def test_an_absolute_path_inside_the_folder_is_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    (tmp_path / "other").symlink_to(folder)
    rows = [
        {**ROW, "chosen": str(folder / "images" / "a.png")},
        {**ROW, "chosen": str(tmp_path / "other" / "images" / "a.png")},
        {**ROW, "chosen": str(folder / "images" / "gone.png")},
        {**ROW, "chosen": str(folder / ".." / "outside.png")},
    ]
    groups, report = read(write_lines(folder, rows))
    assert contents(groups) == [[A, B]] * 2
    assert report.bad[0].endswith(f"line 3: column 'chosen': no such file: {folder / 'images' / 'gone.png'}")
    assert "leaves the folder" in report.bad[1]


def test_text_in_place_of_an_image_does_not_flood_the_message(tmp_path: Path) -> None:
    long = base64.b64encode(bytes(range(256)) * 400).decode()
    shapes = [long, f"data:image/png;base64,{long}", f"https://example.org/{long}", f"{long}.png", f"../{long}.png"]
    for shape in shapes:
        _, report = read(write_lines(write_images(tmp_path), [ROW, {**ROW, "chosen": shape}]))
        assert report.counts["bad"] == 1
        assert len(report.bad[0]) < 700, report.bad[0][:2000]
    _, report = read(write_lines(tmp_path, [CSV + "a cat,images/a.png,images/b.png", f"a,{long},{long}"], "big.csv"))
    assert "field larger than field limit" in report.bad[0]
    assert "give files and their paths" in report.bad[0]


def test_a_key_that_stands_twice_in_a_json_list_is_one_bad_row(tmp_path: Path) -> None:
    text = json.dumps(ROW)
    twice = text[:-1] + ', "prompt": "a dog"}'
    groups, report = read(write_lines(write_images(tmp_path), [f"[{text}, {twice}]"], "train.json"))
    assert len(groups) == 1
    assert "train.json, row 1: the key 'prompt' stands twice" in report.bad[0]


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
def test_the_sign_between_cells_is_seen_in_the_header(tmp_path: Path, name: str, sign: str) -> None:
    lines = [
        sign.join(("prompt", "chosen", "rejected")),
        sign.join(('"a cat, red; old"', "images/a.png", "images/b.png")),
    ]
    groups, report = read(write_lines(write_images(tmp_path), lines, name))
    assert contents(groups) == [[A, B]]
    assert groups[0].prompt.text == "a cat, red; old"
    assert not report.left_out


def test_a_semicolon_in_a_name_does_not_separate_where_commas_do(tmp_path: Path) -> None:
    lines = ["prompt,chosen,rejected,a;b;c;d;e", "a cat,images/a.png,images/b.png,1"]
    assert contents(read(write_lines(write_images(tmp_path), lines, "train.csv"))[0]) == [[A, B]]


def test_links_of_the_hubs_cache_stay_with_their_data_set(tmp_path: Path) -> None:
    """A snapshot's files are links to blobs beside it; a link to another data set's blobs leaves it."""
    store = tmp_path / "datasets--owner--name"
    folder = store / "snapshots" / "0123abc"
    for blobs, name, data in ((store, "1", A), (store, "2", B), (tmp_path / "other", "3", B)):
        (blobs / "blobs").mkdir(parents=True, exist_ok=True)
        (blobs / "blobs" / name).write_bytes(data)
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").symlink_to(store / "blobs" / "1")
    (folder / "images" / "b.png").symlink_to(store / "blobs" / "2")
    (folder / "images" / "c.png").symlink_to(tmp_path / "other" / "blobs" / "3")
    write_lines(folder, [ROW, {**ROW, "rejected": "images/c.png"}])
    groups, report = read(folder)
    assert contents(groups) == [[A, B]]
    assert "images/c.png leaves the folder" in report.bad[0]


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_paths, "MAX_BYTES", 10)
    _, report = read(as_jsonl(write_images(tmp_path)))
    assert "bytes; an image file has at most 10" in report.bad[0]


def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    good = json.dumps(ROW).encode()
    (folder / "train.jsonl").write_bytes(good + b"\n" + good.replace(b"red", b"r\xe9d") + b"\n" + good)
    groups, report = read(folder)
    assert len(groups) == 2
    assert "train.jsonl, line 2: not UTF-8 (byte 0xe9 at position" in report.bad[0]
    (folder / "train.jsonl").write_bytes("\n".join([json.dumps(ROW)] * 3).encode("utf-16"))
    with pytest.raises(ValueError, match=r"none of the first \d+ rows can be read; .*line 1: not UTF-8 \(it is UTF-16"):
        read(folder)
    (folder / "train.jsonl").unlink()
    (folder / "train.csv").write_bytes(
        CSV.encode() + b"caf\xe9,images/a.png,images/b.png\nok,images/a.png,images/b.png\n"
    )
    groups, report = read(folder)
    assert [group.prompt.text for group in groups] == ["ok"]
    assert "half a character" in report.bad[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [("[{]", "train.json: not JSON"), ("[]", "no rows in it"), ("", "no rows in it"), ('["a"]', "no rows in it")],
)
def test_a_json_file_without_rows_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(ValueError, match=says):
        read(tmp_path / "train.json")


def test_csv_rows_of_another_width_are_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    rows = ["a,images/a.png", "a,images/a.png,images/b.png", "a,images/a.png,images/b.png,more"]
    file = write_lines(folder, [CSV + "\n".join(rows)], "train.csv")
    groups, report = read(file)
    assert len(groups) == 1
    assert report.counts["bad"] == 2
    assert "train.csv, line 2: expected 3 cells" in report.bad[0]


def test_csv_labels_are_numbers(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    lines = ["caption,jpg_0,jpg_1,label_0", "a cat,images/a.png,images/b.png,0", "a,images/a.png,images/b.png,0.5"]
    groups, report = read(write_lines(folder, lines, "train.csv"))
    assert contents(groups) == [[B, A]]
    assert report.counts["ties"] == 1


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv", "train.json"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="no rows in it"):
        read(tmp_path / name)


def test_parquet_without_rows_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, [], schema=None)
    with pytest.raises(ValueError, match="no rows in it"):
        read(folder)


def test_a_pattern_names_the_files(tmp_path: Path) -> None:
    write(tmp_path, [PAIR], "train-0")
    write(tmp_path, [{**PAIR, "prompt": "a dog"}], "train-1")
    write(tmp_path, [{**PAIR, "prompt": "a test"}], "test-0")
    groups, report = read(tmp_path / "train-*.parquet")
    assert [group.prompt.text for group in groups] == ["a red cat", "a dog"]
    assert report.total == 2
    with pytest.raises(ValueError, match="no file matches the pattern"):
        read(tmp_path / "nothing-*.parquet")
    write_lines(tmp_path, [ROW], "train-2.jsonl")
    with pytest.raises(ValueError, match="several kinds"):
        read(tmp_path / "train-*")


def test_a_split_is_read_from_the_names_of_files(tmp_path: Path) -> None:
    write(tmp_path / "data", [PAIR], "train-00000-of-00001")
    write(tmp_path / "data", [{**PAIR, "prompt": "a dog"}], "validation_unique-00000-of-00001")
    assert len(read(tmp_path)[0]) == 2
    assert [group.prompt.text for group in read(tmp_path, split="validation_unique")[0]] == ["a dog"]
    with pytest.raises(ValueError, match=r"data\.split: no file of .* split 'test'; found train-00000"):
        read(tmp_path, split="test")


def test_hidden_files_and_lone_settings_are_not_data(tmp_path: Path) -> None:
    write(tmp_path, [PAIR])
    write(tmp_path / ".cache", [PICK_A_PIC], "b")
    (tmp_path / "done.json").write_text("{}")
    assert len(read(tmp_path)[0]) == 1


def test_what_can_be_counted_cheaply_is_counted(tmp_path: Path) -> None:
    folder = write_images(tmp_path)
    assert open_pairs(str(write_lines(folder, [ROW] * 3))).source.total == 3
    assert open_pairs(str(write(folder / "p", [PAIR] * 5))).source.total == 5


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("owner/name", False),
        ("name", False),
        ("owner/name:config", False),
        ("./name", True),
        ("~/pairs", True),
        ("a/b/c", True),
        ("pairs/", True),
        ("pairs.jsonl", True),
        ("pairs/*.parquet", True),
        ("/absent/pairs", True),
    ],
)
def test_what_is_a_place_here_and_what_a_name_on_the_hub(path: str, local: bool) -> None:
    assert is_local(path) == local


def test_the_users_own_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    as_jsonl(write_images(tmp_path / "pairs"))
    assert contents(read(Path("~/pairs"))[0]) == [[A, B]]
