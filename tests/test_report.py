"""report.html of runs in every state: what it says, what it escapes, and that it asks the network for nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_runs import PROMPTS, STOPPED, evaluate, make_run

from pipelines.page import POLICY
from pipelines.report import next_command, write_report

VOID = {"meta", "link", "img", "br", "line", "circle", "rect", "polygon", "path"}


class Page(HTMLParser):
    """What a browser would find in a page: tags with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def sections(self) -> set[str]:
        """Names of the sections."""
        return {attributes["id"] for attributes in self.named("section")}


def page_of(folder: Path) -> Page:
    """Writes the report and reads it back; every tag that opens must close."""
    file = write_report(folder)
    assert file == folder / "report.html"
    page = Page(file.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_whole_run_has_every_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluate(run)
    page = page_of(run)
    assert page.sections() == {"scores", "samples", "along", "curves", "use", "recipe", "origin", "cite"}
    assert "Diffusion-DPO, LoRA on shapes/sd" in page.text
    assert "0.440 → 0.950, a difference of +0.510 [+0.460, +0.550] on 188 prompts × 4 samples" in page.text
    assert "What is not here" not in page.text
    assert "settings tried before this one: not stated" in page.text.lower()
    assert "+2.5 %chosen error against the reference" in page.text
    assert all(word in page.text for word in ("b" * 64, "t" * 24, "w" * 64, "Wallace", "@misc{wallace2023diffusion"))
    assert 'pipe.load_lora_weights("' in page.text
    links = {link["href"] for link in page.named("a") if link["href"].startswith("#")}
    assert links == {f"#{name}" for name in page.sections()}


def test_samples_stand_beside_their_prompts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluate(run)
    named = [image["alt"] for image in page_of(run).named("img")]
    assert named[: 2 * len(PROMPTS)] == [f"{side}: {prompt}" for prompt in PROMPTS for side in ("base", "tuned")]
    along = named[2 * len(PROMPTS) :]
    steps = ("untuned", "step 10", "step 20", "step 30", "step 40")
    assert along == [f"{step}: {prompt}" for step in steps for prompt in PROMPTS]


def test_many_strips_are_thinned_with_both_ends_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=80)
    for step in range(81):
        (run / "samples" / f"step-{step:06d}.png").write_bytes((run / "samples" / "step-000040.png").read_bytes())
    steps = {image["alt"].split(":")[0] for image in page_of(run).named("img")}
    assert len(steps) == 8
    assert {"untuned", "step 80"} <= steps


@pytest.mark.parametrize("finished", [True, False])
def test_strips_of_steps_that_the_run_has_not_done_are_left_out(tmp_path: Path, finished: bool) -> None:
    """An earlier run in the same folder, which was killed, may have left them."""
    run = make_run(tmp_path / "run", steps=20, finished=finished, train={"steps": 20, "log_every": 5})
    for step in (24, 25, 100):
        (run / "samples" / f"step-{step:06d}.png").write_bytes((run / "samples" / "step-000020.png").read_bytes())
    steps = {image["alt"].split(":")[0] for image in page_of(run).named("img")}
    unsure = set() if finished else {"step 24"}  # the next line of metrics.jsonl would be of step 25
    assert steps == {"untuned", "step 5", "step 10", "step 15", "step 20"} | unsure


def test_the_next_command_is_one_that_can_be_run(tmp_path: Path) -> None:
    scored: dict[str, Any] = {"prompts": "shapes/test", "rewards": ["shapes"]}
    killed = make_run(tmp_path / "killed", finished=False, evaluation=scored)
    assert next_command(killed) == f"mmpo train {killed}"
    (killed / "checkpoint-000020").mkdir()
    assert next_command(killed) == f"mmpo train {killed} --resume"
    run = make_run(tmp_path / "my run", evaluation=scored)
    assert next_command(run) == f"mmpo eval '{run}'"
    evaluate(run)
    assert next_command(run).startswith(f"mmpo push '{run}' USER/NAME")
    unscored = make_run(tmp_path / "unscored")
    assert next_command(unscored).startswith(f"mmpo push {unscored} USER/NAME")
    (unscored / "pytorch_lora_weights.safetensors").unlink()
    assert next_command(unscored) == f"mmpo train {unscored}"
    with pytest.raises(ValueError, match="not a run's folder"):
        next_command(tmp_path)


@pytest.mark.parametrize("checkpoint", [None, 20])
def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path, checkpoint: int | None) -> None:
    run = make_run(tmp_path / "run", finished=False, steps=30, train={"steps": 100, "batch_size": 4})
    if checkpoint is not None:
        (run / f"checkpoint-{checkpoint:06d}").mkdir()
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as out:
        out.write('{"step": 31, "lo')  # a kill came while the line was written
    page = page_of(run)
    assert "not finished: 30 of 100 steps" in page.text
    resume = " --resume" if checkpoint else ""
    assert f"mmpo train {run}{resume}" in page.text
    assert ("--resume" in page.text) == bool(checkpoint)
    assert page.sections() == {"along", "curves", "recipe", "origin", "cite"}


def test_a_stopped_run_gives_the_guards_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stopped=STOPPED)
    evaluate(run)
    page = page_of(run)
    assert f"The guard stopped the run at {STOPPED}." in page.text
    assert "The weights that were kept score 0.950 by shapes, their base 0.440" in page.text
    assert [attributes["class"] for tag, attributes in page.tags if "verdict" in attributes.get("class", "")] == [
        "verdict bad"
    ]
    assert "weights kept: step 20" in page.text


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        ({}, "good", "better than"),
        ({"low": -0.1}, "soft", "not told from"),
        ({"difference": -0.3, "low": -0.5, "high": -0.1}, "bad", "worse than"),
        ({"higher_is_better": False}, "bad", "worse than"),
    ],
)
def test_the_headline_follows_the_interval(tmp_path: Path, row: dict[str, Any], kind: str, words: str) -> None:
    run = make_run(tmp_path / "run")
    evaluate(run, **row)
    source = write_report(run).read_text(encoding="utf-8")
    assert f'class="verdict {kind}"' in source
    assert f"the tuned model is {words} its base" in source


def test_without_an_evaluation_the_held_out_pairs_speak(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"))
    assert "prefers the chosen image in 70.0 % [60.0 %, 80.0 %]" in page.text
    assert f"mmpo eval {tmp_path / 'run'} evaluation.prompts=prompts.txt" in page.text


def test_the_command_for_an_evaluation_is_as_short_as_the_recipe_allows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", evaluation={"prompts": "shapes/test", "rewards": ["shapes"]})
    assert "scores and samples of base and tuned: mmpo eval" in page_of(run).text
    assert "evaluation.prompts=" not in page_of(run).text.split("What is not here")[1].split("Curves")[0]


def test_without_held_out_pairs_samples_and_metrics_the_rest_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", held_out=False, samples=False)
    page = page_of(run)
    assert page.sections() == {"curves", "use", "recipe", "origin", "cite"}
    assert "evaluation.held_out_pairs=256" in page.text
    assert "evaluation.previews.count=4" in page.text
    (run / "metrics.jsonl").unlink()
    assert "curves" not in page_of(run).sections()


def test_numbers_that_are_none_leave_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", broken=True)
    evaluate(run, win_rate=float("nan"), difference=float("nan"), low=float("nan"), high=float("nan"))
    source = write_report(run).read_text(encoding="utf-8")
    assert "NaN" not in source.split("<body>")[1].split("recipe.yaml")[0]
    assert 'd=""' not in source
    assert " nan" not in source.lower()
    assert "the loss is not a finite number at 20 steps, first at step 21" in source
    assert "the held-out accuracy is not a finite number at 2 steps, first at step 30" in source


def test_an_evaluation_of_an_older_version_shows_its_whole_sheet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=False)
    evaluate(run, grid=False)
    page = page_of(run)
    assert [image["alt"] for image in page.named("img")] == ["base in the upper row, tuned below it"]
    assert "samples with their prompts: mmpo eval" in page.text


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluate(run)
    (run / "evaluation.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (run / "samples" / "step-000010.png").write_bytes(b"")
    page = page_of(run)
    assert "evaluation.png: " in page.text
    assert "samples/step-000010.png: " in page.text
    assert {"scores", "curves", "along"} <= page.sections()
    (run / "evaluation.json").write_text("{")
    assert "evaluation.json is not valid JSON" in page_of(run).text


def test_what_users_write_is_shown_and_never_run(tmp_path: Path) -> None:
    nasty = '<script>alert(1)</script>" onerror="alert(2)'
    run = make_run(tmp_path / "<b>run", prompts=(nasty,), stopped=nasty, base="shapes/sd")
    evaluate(run, prompts=(nasty,))
    result = json.loads((run / "evaluation.json").read_text())
    result["measures"] = {nasty: result["measures"]["shapes"]}
    result["prompts"] = nasty
    (run / "evaluation.json").write_text(json.dumps(result))
    page = page_of(run)
    assert not page.named("script")
    assert not page.named("b") or all(not attributes for attributes in page.named("b"))
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert page.text.count("<script>alert(1)</script>") >= 4


def test_nothing_is_requested(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluate(run)
    page = page_of(run)
    policy = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy == [POLICY]
    assert POLICY.startswith("default-src 'none'")
    assert all(image["src"].startswith("data:image/") for image in page.named("img"))
    outside = [link["href"] for link in page.named("a") if not link["href"].startswith("#")]
    assert outside
    assert all(link.startswith("https://arxiv.org/abs/") for link in outside)
    source = (run / "report.html").read_text(encoding="utf-8")
    assert source.count("http") == len(outside) + source.count("http-equiv")


def test_a_report_brings_the_model_card_up_to_date(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_report(run)
    assert "## Scores" not in (run / "README.md").read_text(encoding="utf-8")
    evaluate(run)
    write_report(run)
    assert "## Scores" in (run / "README.md").read_text(encoding="utf-8")
    unfinished = make_run(tmp_path / "unfinished", finished=False)
    write_report(unfinished)
    assert not (unfinished / "README.md").exists()


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3000)
    evaluate(run)
    assert write_report(run).stat().st_size < 1_500_000


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; give the output folder of `mmpo train`"):
        write_report(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"not a run's folder \(recipe.yaml is missing\)"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
