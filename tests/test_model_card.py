"""The model card: front matter, text that cannot become markup, and no path of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import PROMPTS, STOPPED, evaluate, make_run

from pipelines.model_card import card, escape, fenced, table, write_model_card
from pipelines.report_private import public, public_text
from pipelines.report_run import read_run

HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def front(text: str) -> dict[str, Any]:
    """The front matter, found as the hub finds it."""
    match = re.match(r"\A---\n(.*?)\n---\n", text, re.DOTALL)
    assert match
    return yaml.safe_load(match.group(1))


def test_front_matter_of_a_lora(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base=HUB)
    evaluate(run)
    head = front(write_model_card(run).read_text(encoding="utf-8"))
    assert head["base_model"] == HUB
    assert head["base_model_relation"] == "adapter"
    assert head["library_name"] == "diffusers"
    assert head["pipeline_tag"] == "text-to-image"
    assert {"lora", "text-to-image", "diffusers", "dpo", "template:sd-lora"} <= set(head["tags"])
    assert head["widget"][0]["output"] == {"url": "evaluation.png"}
    assert "license" not in head


def test_front_matter_of_a_full_fine_tune(tmp_path: Path) -> None:
    text = write_model_card(make_run(tmp_path / "run", base=HUB, lora=False)).read_text(encoding="utf-8")
    assert front(text)["base_model_relation"] == "finetune"
    assert not {"lora", "template:sd-lora"} & set(front(text)["tags"])
    assert "widget" not in front(text)
    assert 'StableDiffusionPipeline.from_pretrained("pipeline")' in text


@pytest.mark.parametrize("model", ["shapes/sd", "base.safetensors", "folder"])
def test_a_base_that_is_not_on_the_hub_is_not_claimed(tmp_path: Path, model: str) -> None:
    if model == "folder":
        (tmp_path / "my base").mkdir()
        model = str(tmp_path / "my base")
    text = write_model_card(make_run(tmp_path / "run", base=model)).read_text(encoding="utf-8")
    assert "base_model" not in front(text)
    if "shapes" not in model:
        assert f'"path/to/{Path(model).name}"' in text


def test_the_source_that_training_noted_decides(tmp_path: Path) -> None:
    """A relative folder looks like a name on the hub; train.json knows which it was."""
    run = read_run(make_run(tmp_path / "run", base="models/mine"))
    assert front(card(run))["base_model"] == "models/mine"
    assert run.summary is not None
    run.summary["base_source"] = "folder"
    assert "base_model" not in front(card(run))


def test_no_path_of_this_machine_is_in_a_card(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    sections = {"evaluation": {"prompts": str(tmp_path / "my prompts.txt"), "rewards": ["shapes"]}}
    run = make_run(tmp_path / "run", base=str(base), stopped=f"step 3: see {tmp_path}/log.txt", **sections)
    evaluate(run)
    text = write_model_card(run).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert tmp_path.name not in text
    assert "my prompts.txt" in text
    assert "see log.txt" in text


def test_what_users_write_cannot_become_markup(tmp_path: Path) -> None:
    nasty = "---\n# a <img src=x> | `b`\n```\n[c](http://d) $e$ **f**"
    run = make_run(tmp_path / "run", prompts=(nasty, "two"))
    evaluate(run, prompts=(nasty, "two"))
    text = write_model_card(run).read_text(encoding="utf-8")
    head = front(text)
    assert head["widget"][0]["text"] == "base above, tuned below: " + " ".join(nasty.split()) + ", two, " + " ".join(
        nasty.split()
    )
    body = text.split("\n---\n", 1)[1]
    assert "<img" not in re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert "1. --- \\# a &lt;img src=x&gt; \\| \\`b\\` \\`\\`\\` \\[c\\](http://d) \\$e\\$ \\*\\*f\\*\\*" in body


def test_a_card_tells_scores_training_and_papers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stopped=STOPPED)
    evaluate(run)
    text = write_model_card(run).read_text(encoding="utf-8")
    assert "| shapes | 0.440 | 0.950 | +0.510 | \\[+0.460, +0.550\\] | 90.0 % | 188 | 752 |" in text
    assert "The guard stopped the run at step 40" in text
    assert "t" * 24 in text
    assert "@misc{rafailov2023direct" in text
    assert f"1. {PROMPTS[0]}" in text


def test_the_recipe_in_a_card_can_be_run(tmp_path: Path) -> None:
    """It is what `mmpo train` reads, apart from the paths that only this machine has."""
    from mmpo.recipe_files import load_recipe

    run = make_run(tmp_path / "run")
    text = write_model_card(run).read_text(encoding="utf-8")
    block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "copy.yaml").write_text(block)
    copy, original = load_recipe(str(tmp_path / "copy.yaml")), load_recipe(str(run))
    assert (copy.data.path, copy.output) == ("my pairs", "run")
    assert copy.method == original.method
    assert copy.train == original.train


def test_a_card_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = write_model_card(run)
    file.write_text(file.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert "more\n" not in write_model_card(run).read_text(encoding="utf-8"), "the mark is still in it"
    file.write_text("my own card\n", encoding="utf-8")
    assert write_model_card(run).read_text(encoding="utf-8") == "my own card\n"


def test_an_unfinished_run_has_a_card_too(tmp_path: Path) -> None:
    text = write_model_card(make_run(tmp_path / "run", finished=False)).read_text(encoding="utf-8")
    assert "not finished" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/alice/pairs", "pairs"),
        ("/data/alice/my pairs/", "my pairs"),
        ("~/models/sd", "sd"),
        ("../../alice/x.txt", "x.txt"),
        ("runs/../../alice", "alice"),
        ("C:\\Users\\alice\\x.txt", "x.txt"),
        ("\\\\server\\alice\\x", "x"),
        ("file:///data/alice/x", "x"),
        ("failed on /data/alice/x.png, again", "failed on x.png, again"),
        ("/data/alice/a (b)/c d.txt", "c d.txt"),
        ("cannot read /data/alice/a (b)/c d.txt", "cannot read c d.txt"),
        ("C:\\Users\\Al Ice\\x", "x"),
        ("see C:\\Users\\Al Ice\\x", "see x"),
        ("path:/data/alice/x", "path:x"),
        ("path=/data/alice/Bob's pictures/x.png", "path=x.png"),
        ("'/data/alice/one, two; three/x' is broken", "'x' is broken"),
        ("from ~alice/my pairs/x.png or ../alice/y.png: bad", "from x.png or y.png: bad"),
        ("no pairs in /data/alice/my pairs/; none", "no pairs in my pairs; none"),
        ("see file:///data/alice/a b/c", "see c"),
        ("see https://arxiv.org/abs/1 and /data/alice/a b", "see https://arxiv.org/abs/1 and a b"),
        ("~5 pairs, n/a", "~5 pairs, n/a"),
        ("a / b / c", "a / b / c"),
        ("black/white and/or grey", "black/white and/or grey"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("https://arxiv.org/abs/1", "https://arxiv.org/abs/1"),
        ("shapes/test", "shapes/test"),
        ("", ""),
    ],
)
def test_paths_are_reduced_to_their_last_part(text: str, expected: str) -> None:
    assert public_text(text) == expected


def test_known_paths_are_replaced_as_they_are_written() -> None:
    known = [("/data/al: ice/one; two", "."), ("al ice/my pairs", "my pairs")]
    assert public_text("in /data/al: ice/one; two/al ice/x y.png, too", known) == "in x y.png, too"
    assert public_text("al ice/my pairs: 3 rows, al ice/my pairs-2", known) == "my pairs: 3 rows, al ice/my pairs-2"


def test_lists_of_prompts_are_left_alone() -> None:
    tree = {"prompts": ["/imagine a cat"], "grid": {"prompts": ["~ wave"]}, "path": "/a/b", "deep": [{"x": "/a/b"}]}
    assert public(tree) == {**tree, "path": "b", "deep": [{"x": "b"}]}


def test_markdown_helpers() -> None:
    assert escape("a\n|b|") == "a \\|b\\|"
    assert fenced("x = '```'") == "````\nx = '```'\n````"
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"
