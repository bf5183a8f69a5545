"""What there is to score in a data set: every layout, every fault a candidate of its own, groups whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import PAIR, PICK_A_PIC, RANKED, A, B, C

from mmpo.data.candidate_rows import LAYOUTS
from mmpo.data.candidates import LARGEST_GROUP, DataCandidate, open_candidates
from mmpo.data.formats import FORMATS
from mmpo.data.labels import (
    columns_of,
    mark_labels,
    read_joined,
    write_rows,
    write_scores,
)
from mmpo.records import bytes_hash, content_id


def parquet(folder: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return str(folder / "data.parquet")


def groups(path: str, **options: Any) -> list[list[DataCandidate]]:
    return list(open_candidates(path, **options).groups())


def test_every_format_of_preferences_says_where_its_images_are() -> None:
    assert {*FORMATS} == {*LAYOUTS} - {"images"}


@pytest.mark.parametrize(
    ("row", "images"),
    [(PAIR, [A, B]), ({**PICK_A_PIC, "label_0": 0.5, "label_1": 0.5}, [A, B]), (RANKED, [A, B, C])],
    ids=["pairs", "a tie", "ranked"],
)
def test_images_of_preferences_are_candidates_also_of_ties(
    row: dict[str, Any], images: list[bytes], tmp_path: Path
) -> None:
    row = {name: value for name, value in row.items() if name != "created_at"}
    (group,) = groups(parquet(tmp_path, [row]))
    assert [candidate.image for candidate in group] == images
    assert [candidate.number for candidate in group] == list(range(len(images)))
    assert {candidate.prompt for candidate in group} == {"a red cat"}
    assert group[0].key == content_id(bytes_hash(A), "a red cat", None)


def test_rows_of_one_prompt_are_one_group_and_a_candidate_stands_in_it_once(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "rejected": C}, {**PAIR, "prompt": "a dog"}, PAIR]
    found = groups(parquet(tmp_path, rows))
    assert [[candidate.image for candidate in group] for group in found] == [[A, B, C], [A, B], [A, B]]
    assert len({group[0].group for group in found}) == 3, "a prompt that comes back is another group"


def test_a_large_group_is_cut(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "image": A + bytes([n % 256, n // 256])} for n in range(LARGEST_GROUP + 3)]
    assert [len(group) for group in groups(parquet(tmp_path, rows))] == [LARGEST_GROUP, 3]


def test_a_folder_with_captions_brings_prompts_together(tmp_path: Path) -> None:
    for name, image, text in (("a", A, "cat"), ("b", B, "dog"), ("c", C, "cat\n")):
        (tmp_path / f"{name}.png").write_bytes(image)
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "d.png").write_bytes(A)
    found = groups(str(tmp_path))
    assert [[(c.prompt, c.image) for c in group] for group in found] == [
        [("cat", A), ("cat", C)],
        [("dog", B)],
        [("", b"")],
    ]
    assert "d.png" in found[2][0].place
    assert "write d.txt" in str(found[2][0].error)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_of_an_image_folder(name: str, tmp_path: Path) -> None:
    rows = [("x.png", "cat"), ("y.png", "dog"), ("../out.png", "cat"), ("gone.png", "cat")]
    (tmp_path / "data").mkdir()
    (tmp_path / "out.png").write_bytes(A)
    (tmp_path / "data" / "x.png").write_bytes(A)
    (tmp_path / "data" / "y.png").write_bytes(b"")
    lines = [json.dumps({"file_name": file, "text": text}) for file, text in rows]
    table = "\n".join(["file_name,text", *map(",".join, rows)] if name.endswith("csv") else lines)
    (tmp_path / "data" / name).write_text(table + "\n")
    cats, (dog,) = groups(str(tmp_path / "data"))
    assert [c.error is None for c in cats] == [True, False, False]
    assert "leaves the folder" in str(cats[1].error)
    assert cats[1].image == b""
    assert f"{name}, line" in cats[1].place
    assert dog.error is not None
    assert "is empty (0 bytes)" in dog.error


def test_faults_are_candidates_and_reading_goes_on(tmp_path: Path) -> None:
    rows = [
        {"prompt": " ", "image": A},
        {"prompt": "x" * 10_000, "image": A},
        {"prompt": "x" * 10_001, "image": A},
        {"prompt": "cat", "image": None},
        {"image": A},
        {"prompt": "cat"},
        {"prompt": "cat", "image": A},
    ]
    file = tmp_path / "rows.jsonl"
    for row in rows:
        if row.get("image"):
            row["image"] = "a.png"
    (tmp_path / "a.png").write_bytes(A)
    file.write_text("\n".join(map(json.dumps, rows)) + "\nno json\n")
    found = [c for group in groups(str(file)) for c in group]
    errors = {c.place.rsplit(" ", 1)[1]: c.error for c in found}
    assert [number for number, error in errors.items() if error is None] == ["2", "7"]
    assert "empty" in str(errors["1"])
    assert "10,001 characters" in str(errors["3"])
    assert "null" in str(errors["4"])
    assert "'prompt'" in str(errors["5"])
    assert "'image' is missing" in str(errors["6"])
    assert "not JSON" in str(errors["8"])
    assert len({c.key for c in found}) == 8


def test_a_bad_row_does_not_part_its_neighbours(tmp_path: Path) -> None:
    rows = [{"prompt": text, "image": A + bytes([n])} for n, text in enumerate(["", "a", "", "a", " ", "b"])]
    found = groups(parquet(tmp_path, rows))
    assert [[c.place.rsplit(" ", 1)[1] for c in group] for group in found] == [["0"], ["1", "3"], ["2"], ["4"], ["5"]]


def test_answers_to_a_question_about_an_image(tmp_path: Path) -> None:
    rows = [
        {"image": A, "question": "<image>\nwhat is it?", "responses": ["a cat", "a dog", ""]},
        {"image": B, "question": "what is it?", "responses": ["a cat"]},
    ]
    first, second = groups(parquet(tmp_path, rows))
    assert [c.response for c in first] == ["a cat", "a dog", None]
    assert {c.prompt for c in first} == {"what is it?"}
    assert "empty" in str(first[2].error)
    assert first[0].key != first[1].key
    assert first[0].group != second[0].group, "the same question about another image"


def test_pairs_of_answers(tmp_path: Path) -> None:
    rows = [{"images": [A], "prompt": "what?", "chosen": "a cat", "rejected": "a dog"}]
    (group,) = groups(parquet(tmp_path, rows))
    assert [c.response for c in group] == ["a cat", "a dog"]


def test_columns_that_fit_nothing_are_told(tmp_path: Path) -> None:
    path = parquet(tmp_path, [{"picture": A, "words": "cat"}])
    with pytest.raises(ValueError, match="found the columns picture, words; one image a row needs prompt and image"):
        open_candidates(path)
    (group,) = groups(path, columns={"image": "picture", "prompt": "words"})
    assert group[0].prompt == "cat"


def test_limit_keeps_groups_whole(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n // 3}", "image": A + bytes([n])} for n in range(9)]
    found = list(open_candidates(parquet(tmp_path, rows)).groups(4))
    assert [len(group) for group in found] == [3, 3]


def test_labels_are_joined_shard_by_shard(tmp_path: Path) -> None:
    def row(key: str) -> dict[str, Any]:
        texts = dict.fromkeys(("group", "image_hash", "prompt", "split", "place"), "x")
        return {"key": key, "number": 0, **texts, "response": None, "error": None}

    for number, keys in enumerate((["a", "b"], ["c"])):
        write_rows(tmp_path, number, [row(key) for key in keys])
        scores = [{"key": key, "score": None if key == "b" else 1.5, "error": None, "note": None} for key in keys]
        write_scores(tmp_path, "one", number, [{**score, "part_x": 2.0} for score in scores])
    with pytest.raises(ValueError, match="did not finish"):
        columns_of(tmp_path)
    mark_labels(tmp_path, {"shards": 2, "columns": {"one": {}}})
    shards = list(read_joined(tmp_path))
    assert [[(r.key, r.scores["one"]) for r in shard] for shard in shards] == [[("a", 1.5), ("b", None)], [("c", 1.5)]]
    with pytest.raises(ValueError, match="did you mean 'one'"):
        list(read_joined(tmp_path, ["onne"]))
    write_scores(tmp_path, "one", 1, [{"key": "z", "score": 1.0, "error": None, "note": None}])
    with pytest.raises(ValueError, match="not those of"):
        list(read_joined(tmp_path))
