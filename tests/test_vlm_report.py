"""Report, model card and upload of a vision-language model's run: what they say, escape, and keep here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import vlm_finished
import yaml
from browsers import needs_browser
from PIL import Image
from test_report import Page
from test_report_push import Hub
from vlm_finished import Finished, copy_of, held
from vlm_rows import folder_of

from mmpo.files import write_json
from pipelines.model_card import MARK
from pipelines.page import POLICY
from pipelines.report import next_command, write_report
from pipelines.report_run import VlmRun, read_vlm_run
from pipelines.vlm_card import push_vlm, write_vlm_card
from pipelines.vlm_run_evaluation import evaluate_vlm
from pipelines.vlm_usage import vlm_usage

finished = vlm_finished.finished
ROOT = Path(__file__).resolve().parent.parent
BAD = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evaluated(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything, whose answers and benchmark hold markup."""
    run = copy_of(finished("lora"), tmp_path_factory.mktemp("report") / "run")
    evaluate_vlm(run, ["evaluation.max_new_tokens=4", "evaluation.questions=shapes/tune", "evaluation.limit=2"])
    rows = held(run / "answers" / "answers.json")
    rows["rows"][0] |= {"question": BAD, "base": BAD, "tuned": f"{BAD} again"}
    write_json(run / "answers" / "answers.json", rows)
    row = {"base": 50.0, "tuned": 75.0, "difference": 25.0, "low": 10.0, "high": 40.0}
    row |= {"unit": "%", "higher_is_better": True, "clusters": 9}
    result = {"benchmark": "POPE", "parts": {BAD: {"accuracy": row}}, "notes": [], "answered": 4, "of": 4}
    write_json(run / "evaluation-pope.json", {**result, "against": str(run / "x"), "answers": str(run / "y")})
    return run


def run_of(folder: Path) -> VlmRun:
    run = read_vlm_run(folder)
    assert run is not None
    return run


def page_of(folder: Path) -> Page:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_whole_report(evaluated: Path) -> None:
    page = page_of(evaluated)
    parts = {"scores", "benchmarks", "answers", "curves", "use", "recipe", "origin", "cite"}
    assert page.sections() == parts
    assert f"rdpo, LoRA on {folder_of('llava')}" in page.text
    assert "dpo of chosen over rejected (beta 0.1) + dpo of chosen over visual (beta 0.1)" in page.text
    assert "By the measure hallucinated (lower is better)" in page.text
    assert "over 2 scenes" in page.text
    assert "accuracy %" in page.text
    assert "75.000" in page.text
    titles = ("Held-out preference accuracy", "Loss by term", "Margin of implied rewards", "Tokens per second")
    assert all(title in page.text for title in titles)
    assert "1: dpo of chosen over rejected" in page.text
    assert "What is not here" not in page.text
    assert "PeftModel.from_pretrained" in page.text
    assert "Re-Align: Aligning Vision Language Models" in page.text
    assert "Diffusion" not in page.text
    assert next_command(evaluated).startswith("mmpo export")


def test_text_of_data_and_of_models_is_escaped(evaluated: Path) -> None:
    page = page_of(evaluated)
    assert page.text.count(BAD) >= 3
    assert not [image for image in page.named("img") if image["src"] == "x"]
    assert not page.named("script")
    assert all(image["src"].startswith("data:image/") for image in page.named("img"))
    assert any(meta.get("content") == POLICY for meta in page.named("meta"))


def test_an_unfinished_run_says_what_is_missing(finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished("lora"), tmp_path / "run")
    page = page_of(run)
    assert "mmpo eval" in page.text
    assert "Of 2 held-out pairs" in page.text
    assert next_command(run).startswith("mmpo eval")
    (run / "train.json").unlink()
    (run / "answers").mkdir()
    assert "The run is not finished" in page_of(run).text
    assert "--resume" in next_command(run)


def test_what_cannot_be_read_is_said(evaluated: Path, tmp_path: Path) -> None:
    run = copy_of(evaluated, tmp_path / "run")
    (run / "answers" / "answers.json").write_text("{")
    (run / "evaluation-pope.json").write_text("[]")
    text = page_of(run).text
    assert "answers/answers.json cannot be read" in text
    assert "evaluation-pope.json cannot be read" in text


@needs_browser
def test_the_page_opens_without_an_error(evaluated: Path) -> None:
    file = write_report(evaluated)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_pages.py"), str(file), "--width", "400"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_card_and_what_is_uploaded_hold_no_path_and_no_row(evaluated: Path) -> None:
    hub = Hub()
    push_vlm(run_of(evaluated), "alice/red", private=True, api=hub)
    weights = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"}
    ours = {"README.md", "recipe.yaml", "train.json", "evaluation.json", "evaluation-pope.json", "mmpo.json"}
    assert weights | ours <= set(hub.files)
    assert not [name for name in hub.files if name.startswith(("answers", "benchmarks", "checkpoint", "metrics"))]
    everything = b"\n".join(content for name, content in hub.files.items() if not name.endswith(".safetensors"))
    assert str(evaluated.parent).encode() not in everything
    assert str(folder_of("llava")).encode() not in everything
    assert b"It is red" not in everything
    card = hub.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("peft", "image-text-to-text")
    assert {"rdpo", "dpo", "lora", "mmpo"} <= set(head["tags"])
    assert "base_model" not in head  # a local folder
    assert 'PeftModel.from_pretrained(base, "alice/red")' in card
    assert "| hallucinated (lower is better) |" in card
    assert "&lt;img" in card
    assert "<img" not in card


def test_a_card_of_ones_own_stays_and_an_unfinished_run_is_refused(finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished("full"), tmp_path / "run")
    assert MARK in (run / "README.md").read_text()
    assert yaml.safe_load((run / "README.md").read_text().split("---")[1])["library_name"] == "transformers"
    (run / "README.md").write_text("mine")
    write_vlm_card(run)
    assert (run / "README.md").read_text() == "mine"
    (run / "train.json").unlink()
    with pytest.raises(ValueError, match="no finished weights yet"):
        push_vlm(run_of(run), "alice/red", private=True, api=Hub())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_code_for_using_the_weights_runs(
    finished: Finished, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(finished(kind))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (28, 28), "red").save("image.png")
    source = vlm_usage(run, weights=str(run.weights)).replace("max_new_tokens=128", "max_new_tokens=2")
    exec(compile(source, "usage", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")
    assert json.dumps(str(run.weights)) in source
