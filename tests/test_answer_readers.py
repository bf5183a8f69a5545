"""Preferences between answers, from the layouts that people have. Fixtures follow the published schemas: TRL's vision
preferences, RLHF-V-Dataset, RLAIF-V-Dataset, POVID, Re-Align, mDPO, LLaMA-Factory's ShareGPT ranking, ms-swift's custom
datasets and InternVL's MPO."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from answer_files import assistant, pictures, png, said, user, write_json
from PIL import Image

from mmpo.answer_pairs import AnswerPair, Turn
from mmpo.data.answer_formats import ANSWER_FORMATS, holds_answers
from mmpo.data.answer_readers import open_answers, read_answers, read_open_answers, with_answer_format
from mmpo.data.answer_rows import answer_row, answer_schema
from mmpo.data.extra_columns import ExtraColumn
from mmpo.data.readers import ReadReport
from mmpo.data.shards import write_shard
from mmpo.data.source_memory import open_memory
from mmpo.data.split import hold_out
from mmpo.records import bytes_hash

QUESTION = Turn("user", (None, "What is it?"))
MANY = [user("<image>\nWhat is it?"), assistant("A cat."), user("And this <image>?")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three pictures."""
    return pictures(tmp_path)


def read(place: Path, *rows: Mapping[str, Any], name: str = "data.json", **options: Any) -> list[AnswerPair]:
    """Pairs of rows that are all sound."""
    return list(read_answers(write_json(place / name, rows), on_bad_row="error", **options))


def fault(place: Path, *rows: Mapping[str, Any], **options: Any) -> str:
    """What is said of the one bad row."""
    report = ReadReport()
    list(read_answers(write_json(place / "bad.json", rows), report=report, **options))
    assert report.counts["bad"] == 1, report.bad
    return report.bad[0]


PLAIN = {"images": ["0.png"], "prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog."}
BLOCKS = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
ASKED = said("human", "<image>\nWhat is it?")
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("trl plain", "answers", PLAIN),
    (
        "trl conversational",
        "answers",
        {
            "images": ["0.png"],
            "prompt": [user(BLOCKS)],
            "chosen": [assistant([{"type": "text", "text": "A cat."}])],
            "rejected": [assistant("A dog.")],
        },
    ),
    (
        "trl implicit prompt",
        "trl_implicit",
        {
            "image": "0.png",
            "chosen": [user(BLOCKS), assistant("A cat.")],
            "rejected": [user(BLOCKS), assistant("A dog.")],
        },
    ),
    ("rlaif-v", "answers", {"image": "0.png", "question": "What is it?", "chosen": "A cat.", "rejected": "A dog."}),
    (
        "internvl mpo",
        "answers",
        {"image": ["0.png"], "question": "<image>\nWhat is it?", "chosen": "A cat.", "rejected": "A dog."},
    ),
    (
        "mdpo",
        "answers",
        {"img_path": "0.png", "prompt": "What is it?\n<image>", "chosen": "A cat.", "rejected": "A dog."},
    ),
    (
        "rlhf-v",
        "rlhf_v",
        {
            "ds_name": "RLHF-V",
            "image": "0.png",
            "text": json.dumps({"question": "What is it?", "chosen": "A cat.", "rejected": "A dog."}),
            "origin_dataset": "COCO",
            "origin_split": "{}",
            "idx": 3,
        },
    ),
    (
        "povid",
        "povid",
        {
            "id": "000000033471",
            "image": "0.png",
            "conversations": [ASKED, said("gpt", "A cat.")],
            "rejected_conversations": [ASKED, said("gpt", "A dog.")],
        },
    ),
    (
        "llama-factory",
        "sharegpt",
        {
            "conversations": [ASKED],
            "chosen": said("gpt", "A cat."),
            "rejected": said("gpt", "A dog."),
            "images": ["0.png"],
        },
    ),
    (
        "ms-swift response",
        "swift",
        {
            "messages": [user("<image>What is it?"), assistant("A cat.")],
            "rejected_response": "A dog.",
            "images": ["0.png"],
        },
    ),
    (
        "ms-swift messages",
        "swift",
        {
            "messages": [user("<image>What is it?"), assistant("A cat.")],
            "rejected_messages": [user("<image>What is it?"), assistant("A dog.")],
            "images": ["0.png"],
        },
    ),
]


@pytest.mark.parametrize(("format", "row"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_each_layout_gives_the_same_pair(place: Path, format: str, row: dict[str, Any], name: str) -> None:
    opened = open_answers(write_json(place / name, [row]))
    assert opened.format.name == format
    (pair,) = read_open_answers(opened, on_bad_row="error")
    asked = "What is it?"
    parts = pair.turns[0].parts
    assert (sorted(map(str, parts)), pair.turns[0].role) == (["None", asked], "user")
    assert parts == ((asked, None) if "What is it?\n<image>" in row.values() else (None, asked))
    assert (pair.images, pair.chosen, pair.rejected) == ((png(0),), "A cat.", "A dog.")
    assert (pair.rejected_images, pair.prompt.text) == (None, asked)
    assert pair.prompt.cluster == bytes_hash(png(0))[:24]
    assert pair.source.startswith(str(place / name))


def test_ids_go_by_what_is_in_the_row(place: Path) -> None:
    both = read(place, PLAIN, PLAIN)
    assert both[0].id == both[1].id
    others = [{"images": ["1.png"]}, {"chosen": "A cow."}, {"rejected": "A cow."}, {"prompt": "Who?"}]
    found = read(place, PLAIN, *({**PLAIN, **change} for change in others))
    assert len({pair.id for pair in found}) == 5


def test_re_align_has_an_image_to_reject(place: Path) -> None:
    row = {
        "image": "0.png",
        "retrieved_image": "1.png",
        "chosen": [user("<image>\nWhat is it?"), assistant("A cat.")],
        "rejected": [user("<image>\nWhat is it?"), assistant("A dog.")],
    }
    (pair,) = read(place, row)
    assert (pair.images, pair.rejected_images) == ((png(0),), (png(1),))
    assert pair.turns == (QUESTION,)
    assert open_answers(str(place / "data.json")).format.name == "re_align"
    (same,) = read(place, {**row, "retrieved_image": "0.png"})
    assert same.rejected_images is None


def test_swift_may_reject_by_images_alone(place: Path) -> None:
    row = {
        "messages": [user("<image>What is it?"), assistant("A cat.")],
        "images": ["0.png"],
        "rejected_images": [{"bytes": None, "path": "1.png"}],
        "margin": 0.5,
    }
    (pair,) = read(place, row, extra={"margin": ExtraColumn()})
    assert (pair.rejected, pair.rejected_images, pair.extra) == (None, (png(1),), {"margin": 0.5})
    assert "neither rejected_response" in fault(place, {**row, "rejected_images": []})
    assert "2 images for 1" in fault(place, {**row, "rejected_images": ["1.png", "2.png"]})


def test_our_own_rows_keep_id_key_split_and_scores(tmp_path: Path) -> None:
    made = {"id": "0123456789abcdef01234567", "key": "scene", "split": "tune", "image": png(0), "made": [{}, {}]}
    row = answer_row(**made, prompt="What?", image_hash="", answers=("A cat.", "A dog."), scores={"clip": [0.5, None]})
    write_shard(tmp_path / "d", 0, [row], answer_schema(["clip"]))
    (pair,) = read_answers(str(tmp_path / "d"), on_bad_row="error")
    assert (pair.id, pair.prompt.key, pair.prompt.split) == ("0123456789abcdef01234567", "scene", "tune")
    assert (pair.scores, pair.turns[0].parts) == ({"clip": [0.5, None]}, (None, "What?"))


def test_ranked_lists_give_their_best_and_worst(place: Path) -> None:
    row = {"prompt": "What?", "images": ["0.png"], "responses": ["b", "a", "c"], "rank": [2, 1, 3]}
    (pair,) = read(place, {**row, "scores": {"clip": [2.0, 3.0, 1.0]}})
    assert (pair.chosen, pair.rejected, pair.scores) == ("a", "c", {"clip": [3.0, 1.0]})
    report = ReadReport()
    assert not list(read_answers(write_json(place / "t.json", [{**row, "rank": [1, 1, 1]}]), report=report))
    assert report.counts["ties"] == 1


def test_several_turns_and_images_stand_where_they_were(place: Path) -> None:
    row = {"messages": [*MANY, assistant("A cow.")], "rejected_response": "A hen.", "images": ["0.png", "1.png"]}
    (pair,) = read(place, {**row, "system": "Be short."})
    assert pair.turns == (
        Turn("system", ("Be short.",)),
        QUESTION,
        Turn("assistant", ("A cat.",)),
        Turn("user", ("And this ", None, "?")),
    )
    assert (pair.images, pair.prompt.text) == ((png(0), png(1)), "And this \n?")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<image>\nWhat?", (None, "What?")),
        ("What?\n<image>", ("What?", None)),
        ("<image> What?", (None, "What?")),
        ("<image><image>\n\nWhat?", (None, None, "What?")),
        ("<|vision_start|><|image_pad|><|vision_end|>What?", (None, "What?")),
        ("<im_start><image><im_end>\nWhat?", (None, "What?")),
        ("<img><ImageHere></img>What?", (None, "What?")),
        ("<|image|>What?", (None, "What?")),
        ("<|image_1|>\n<|image_2|>\nWhat?", (None, None, "What?")),
        ("Left <image> right\n<image>\nend", ("Left ", None, " right", None, "end")),
        ("a <b> c", ("a <b> c",)),
    ],
)
def test_marks_of_images_in_all_spellings(place: Path, text: str, parts: tuple[str | None, ...]) -> None:
    count = parts.count(None)
    row = {**PLAIN, "images": [f"{number}.png" for number in range(count)], "prompt": text}
    assert read(place, row)[0].turns[0].parts == parts


def test_rows_of_text_alone_are_fine(place: Path) -> None:
    (pair, _) = read(place, {**PLAIN, "images": []}, PLAIN)
    assert (pair.images, pair.turns, pair.prompt.cluster) == ((), (Turn("user", ("What is it?",)),), "what is it?")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "<image><image>What?"}, "places for 2 images .* the row has 1"),
    ({"images": ["0.png", "1.png"], "prompt": "<image>What?"}, "places for 1 images .* the row has 2"),
    ({"images": [], "prompt": "<image>What?"}, "places for 1 images .* the row has 0"),
    ({"chosen": "A dog."}, "the same answer"),
    ({"chosen": " "}, "column 'chosen' is empty"),
    ({"rejected": None}, "column 'rejected' is empty"),
    ({"chosen": "See <image>."}, "answers are text"),
    ({"chosen": [assistant("A cat.")]}, "one of the columns .* a text and the other messages"),
    ({"images": ["../0.png"]}, "leaves the folder"),
    ({"images": ["https://example.org/0.png"]}, "is a URL, and nothing is fetched"),
    ({"images": ["file:///0.png"]}, "without file://"),
    ({"images": ["7.png"]}, "no such file"),
    ({"images": ["data:text/html;base64,AAAA"]}, "no data URI of an image"),
    ({"images": ["data:image/png;base64,!!"]}, "base64 is damaged"),
    ({"prompt": [{"role": "tool", "content": "x"}]}, "the role is 'tool'"),
    ({"prompt": [user("a"), user("b")]}, "by turns"),
    ({"prompt": [user("a"), assistant("b")]}, "the user's last"),
    ({"prompt": [user([{"type": "video"}])]}, "block of type 'video'"),
    ({"prompt": [user(7)]}, "its content is int"),
    ({"prompt": "<|image_2|><|image_1|>"}, "are numbered"),
    ({"prompt": "<img>0.png</img>What?", "images": []}, "holds <img>0.png</img>; images are read"),
    ({"prompt": "<video>What?", "images": []}, "holds <video>"),
    ({"rejected_images": ["1.png", "2.png"]}, "holds 2 images for 1"),
    ({"images": [], "rejected_images": ["1.png"]}, "holds 1 images for 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_rows_are_named_and_say_what_is_wrong(place: Path, change: dict[str, Any], message: str) -> None:
    from re import search

    said_of_it = fault(place, {**PLAIN, **change}, PLAIN)
    assert search(message, said_of_it), said_of_it
    assert f"{place / 'bad.json'}, row 0: " in said_of_it


def test_conversations_must_differ_in_their_last_message_alone(place: Path) -> None:
    row = {
        "image": "0.png",
        "chosen": [user("<image>a"), assistant("b")],
        "rejected": [user("<image>c"), assistant("d")],
    }
    assert "differ before their last message" in fault(place, row)
    assert "must be the assistant's" in fault(place, {**row, "rejected": [user("<image>a")]})


def test_images_come_as_bytes_uris_pil_or_inside_messages(place: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    (pair,) = read(place, {**PLAIN, "images": [uri]})
    assert pair.images == (png(1),)
    image = Image.new("RGB", (4, 4), "red")
    rows: Sequence[dict[str, Any]] = [
        {**PLAIN, "images": [image]},
        {**PLAIN, "images": [{"bytes": png(2), "path": None}]},
        {**PLAIN, "images": None, "prompt": [user([{"type": "image", "image": image}, {"type": "text", "text": "a"}])]},
        {**PLAIN, "images": [uri], "prompt": [user([{"type": "image", "image": image}, "a"])]},
    ]
    opened = with_answer_format(open_memory(rows), "memory")
    report = ReadReport()
    found = list(read_open_answers(opened, report=report))
    assert [one.images[0][:4] for one in found] == [b"\x89PNG"] * 3
    assert found[0].images == found[2].images
    assert "give them in one place" in report.bad[0]


def test_an_image_folder_of_ones_own(tmp_path: Path) -> None:
    pictures(tmp_path / "coco")
    (tmp_path / "rows").mkdir()
    pairs = read(tmp_path / "rows", PLAIN, images=str(tmp_path / "coco"))
    assert pairs[0].images == (png(0),)
    row = {**PLAIN, "images": ["../rows/data.json"]}
    assert "leaves the folder" in fault(tmp_path / "rows", row, images=str(tmp_path / "coco"))
    with pytest.raises(ValueError, match="no such folder"):
        read(tmp_path / "rows", PLAIN, images=str(tmp_path / "nowhere"))


def test_dataset_info_names_columns_and_roles(place: Path) -> None:
    info = {
        "mine": {
            "file_name": "data.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "chosen": "good", "rejected": "bad", "images": "pics"},
            "tags": {"role_tag": "who", "content_tag": "text", "user_tag": "asker", "assistant_tag": "bot"},
        }
    }
    (place / "dataset_info.json").write_text(json.dumps(info))
    row = {
        "talk": [{"who": "asker", "text": "<image>What is it?"}],
        "good": {"who": "bot", "text": "A cat."},
        "bad": {"who": "bot", "text": "A dog."},
        "pics": ["0.png"],
    }
    (pair,) = read(place, row)
    assert (pair.turns, pair.chosen, pair.rejected, pair.images) == ((QUESTION,), "A cat.", "A dog.", (png(0),))


def test_columns_are_renamed_or_the_need_is_said(place: Path) -> None:
    row = {"pic": "0.png", "prompt": "What is it?", "good": "A cat.", "bad": "A dog."}
    names = {"image": "pic", "chosen": "good", "rejected": "bad"}
    assert read(place, row, columns=names)[0].images == (png(0),)
    with pytest.raises(ValueError, match=r"found the columns pic, prompt, good, bad; .*swift needs messages"):
        read(place, row)
    with pytest.raises(ValueError, match="unknown name 'x'; valid: auto, answer_lists"):
        read(place, row, format="x")
    with pytest.raises(ValueError, match="needs the column margin"):
        read(place, PLAIN, extra={"margin": ExtraColumn()})


def test_pairs_of_images_are_not_taken_for_answers() -> None:
    assert not holds_answers(["prompt", "chosen", "rejected"])
    assert not holds_answers(["caption", "jpg_0", "jpg_1", "label_0"])
    assert not holds_answers(["prompt", "images", "rank", "scores"])
    assert holds_answers(["prompt", "chosen", "rejected"], "answers")
    assert len({case[1] for case in CASES}) == len(ANSWER_FORMATS) - 2  # Re-Align and lists have tests of their own


def test_the_limit_and_the_first_bad_row(place: Path) -> None:
    rows = [{**PLAIN, "prompt": f"Question {number}?"} for number in range(5)]
    report = ReadReport()
    assert len(list(read_answers(write_json(place / "d.jsonl", rows), limit=2, report=report))) == 2
    assert (report.counts["rows"], report.total) == (2, 5)
    with pytest.raises(ValueError, match=r"row 1: column 'chosen' is empty"):
        read(place, PLAIN, {**PLAIN, "chosen": ""})


def test_held_out_rows_share_no_image_with_the_others(place: Path) -> None:
    rows = [{**PLAIN, "images": [f"{n % 3}.png"], "prompt": f"Describe this image {n}."} for n in range(15)]
    same = [{**row, "prompt": "Describe this image."} for row in rows[:6]]
    train, held = hold_out(read(place, *rows, *same), 7)
    assert len(held) == 0  # each image has 7 rows, and a fifth of 21 is 4
    more = [{**PLAIN, "images": ["data:image/png;base64," + base64.b64encode(png(n)).decode()]} for n in range(9, 39)]
    train, held = hold_out(read(place, *rows, *more), 4)
    assert len(held) == 4
    assert not {pair.images for pair in train} & {pair.images for pair in held}
