"""Small hand-made files in the layouts of benchmarks for vision-language models, with answers of known figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SYNONYMS = """dog, puppy
person, man, woman, child, baby, passenger
dining table, table, desk
chair, seat
traffic light, stop light
teddy bear, teddy
bear, cub
toilet
knife
wine glass
bus, coach
bowl, plate
"""


def lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def whole(file: Path, value: Any) -> Path:
    """One JSON value."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return file


def pope(folder: Path, name: str = "coco_pope_random") -> Path:
    """Four questions about two images."""
    asked = [("a.jpg", "dog", "yes"), ("a.jpg", "cat", "no"), ("b.jpg", "cup", "yes"), ("b.jpg", "bus", "no")]
    rows = [
        {"question_id": n, "image": image, "text": f"Is there a {thing} in the image?", "label": label}
        for n, (image, thing, label) in enumerate(asked, 1)
    ]
    return lines(folder / f"{name}.json", rows)


POPE_ANSWERS = ["Yes, there is.", "No.", "There is not one. Yes.", "nothing here"]
"""TP, TN, FN, and FP, since what is neither counts as yes."""


def coco(folder: Path) -> Path:
    """COCO's two files for three images."""
    images = [{"id": n, "file_name": f"COCO_{n}.jpg"} for n in (7, 8, 9)]
    names = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dining table"}, {"id": 3, "name": "person"}]
    places = [(7, 1), (7, 1), (7, 2), (8, 3), (9, 1)]
    found = [{"image_id": image, "category_id": name} for image, name in places]
    whole(folder / "instances_val.json", {"images": images, "annotations": found, "categories": names})
    whole(folder / "captions_val.json", {"images": images, "annotations": [{"image_id": 7, "caption": "A bear."}]})
    return folder


CHAIR_ANSWERS = {
    7: "Two puppies and a baby bear sit on desks near a toilet seat, under stop lights.",
    8: "A man.",
    9: "Nothing at all.",
}
"""Of the first: dog, bear, table are there; toilet and traffic light are not."""


def amber(folder: Path) -> Path:
    """Two descriptions and five yes/no questions about three images."""
    kinds = {
        1: ("generative", None, "AMBER_1.jpg"),
        2: ("generative", None, "AMBER_2.jpg"),
        3: ("discriminative-hallucination", "no", "AMBER_1.jpg"),
        4: ("discriminative-hallucination", "no", "AMBER_2.jpg"),
        5: ("discriminative-attribute-state", "yes", "AMBER_1.jpg"),
        6: ("discriminative-attribute-state", "no", "AMBER_2.jpg"),
        7: ("relation", "yes", "AMBER_3.jpg"),
    }
    described = {1: (["dog", "sofa"], ["cat"]), 2: (["sofa"], ["dog"])}
    truths = [
        {"id": n, "type": kind, "truth": described[n][0], "hallu": described[n][1]}
        if n in described
        else {"id": n, "type": kind, "truth": truth}
        for n, (kind, truth, _) in kinds.items()
    ]
    asked = [{"id": n, "image": image, "query": f"Question {n}?"} for n, (_, _, image) in kinds.items()]
    whole(folder / "annotations.json", truths)
    whole(folder / "relation.json", {"dog": ["puppy"], "sofa": ["couch"], "cat": [], "ball": [], "image": []})
    (folder / "safe_words.txt").write_text("image\n")
    whole(folder / "query" / "query_all.json", asked)
    return folder


AMBER_ANSWERS = {
    1: "An image of a puppy and a cat with two balls.",
    2: "A couch.",
    3: "No",
    4: "Yes",
    5: "Yes",
    6: "No, it is red",
    7: "No",
}


def hallusion(folder: Path) -> Path:
    """A set of VD with two figures and two questions, and one of VS whose first row has no figure."""
    rows = [
        ("VD", "chart", "0", "0", "0", "1", "1"),
        ("VD", "chart", "0", "0", "1", "1", "0"),
        ("VD", "chart", "0", "1", "0", "2", "0"),
        ("VD", "chart", "0", "1", "1", "2", "1"),
        ("VS", "map", "3", "0", "0", "0", "1"),
        ("VS", "map", "3", "1", "0", "1", "0"),
    ]
    names = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input", "gt_answer")
    full = [{**dict(zip(names, row, strict=True)), "question": f"Is it {row[4]}?", "filename": None} for row in rows]
    return whole(folder / "HallusionBench.json", full)


HALLUSION_ANSWERS = ["Yes", "No", "Yes.", "yes it is", "I cannot tell.", "Perhaps"]
"""Right, right, wrong, right, right since there is no figure, wrong."""


def mmhal(folder: Path) -> Path:
    """Three questions of two types."""
    rows = [
        {
            "question_type": kind,
            "image_src": f"https://example.org/{n}.jpg",
            "image_content": ["dog"],
            "question": f"What {n}?",
            "gt_answer": "A {dog}.",
            "model_answer": "",
        }
        for n, kind in enumerate(("attribute", "attribute", "counting"))
    ]
    return whole(folder / "response_template.json", rows)


MMHAL_REPLIES = ["Fine. Rating: 6", "rating: 2", "Rating: 3, or rather rating: 4"]


def mme(folder: Path) -> Path:
    """Two tasks: existence with two images, color with one."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = [("1.jpg", "dog", "Yes"), ("1.jpg", "cat", "No"), ("2.jpg", "cup", "Yes"), ("2.jpg", "bus", "No")]
    text = "".join(f"{image}\tIs there a {thing}?\t{truth}\n" for image, thing, truth in asked)
    (folder / "existence.txt").write_text(text)
    (folder / "color.txt").write_text("1.jpg\tIs it red?\tYes\n1.jpg\tIs it blue?\tNo\n")
    return folder


def mme_answers(folder: Path) -> Path:
    """Existence: both right, then one right and one that says neither; colour: both wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"existence": ["yes", "No, there is none", "Yes.", "I see"], "color": ["no", "yes"]}
    for task, answers in said.items():
        asked = (mme(folder.parent / "mme") / f"{task}.txt").read_text().splitlines()
        (folder / f"{task}.txt").write_text("".join(f"{a}\t{b}\n" for a, b in zip(asked, answers, strict=True)))
    return folder
