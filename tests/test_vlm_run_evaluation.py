"""`mmpo eval RUN` of a vision-language model: its figures by a second path, what it refuses, benchmarks of a run."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import pytest
import torch
import vlm_files
import vlm_finished
from command_line import Main, assert_refused
from peft import PeftModel
from transformers import AutoModelForImageTextToText
from vlm_finished import Finished, copy_of, held
from vlm_rows import folder_of, png

from mmpo.adapters.naive_tokens import naive_logps
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import load_vlm
from mmpo.shapes.asked import exam
from pipelines import vlm_run_benchmark
from pipelines.build_vlm import encoder_of
from pipelines.vlm_benchmarks import Tools
from pipelines.vlm_feed import vlm_feed
from pipelines.vlm_run_benchmark import benchmark_run
from pipelines.vlm_run_evaluation import evaluate_vlm
from pipelines.vlm_sides import finished_vlm, sides

main = command_line.main
finished = vlm_finished.finished
SHORT = ["evaluation.max_new_tokens=4"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
def test_figures_are_those_of_a_second_path(finished: Finished, tmp_path: Path) -> None:
    """Log-likelihoods by the naive forward, of the base and of the adapter as peft itself loads it."""
    run = copy_of(finished("lora"), tmp_path / "run")
    result = evaluate_vlm(run, SHORT)
    recipe = finished_vlm(run)[1]
    base = load_vlm(str(folder_of("llava")), dtype=torch.float64)
    batch = vlm_feed(recipe, encoder_of(recipe, base), lambda text: None).held_out.answers(range(2))
    with quiet_transformers(), torch.no_grad():
        scores = [naive_logps(base.model, batch)]
        scores += [
            naive_logps(PeftModel.from_pretrained(base.model, str(run / "adapter")).eval().base_model.model, batch)
        ]
    rows = result["measures"]
    for side, found in zip(("base", "tuned"), scores, strict=True):
        chosen, rejected = (found[name].logps.sum(-1) for name in ("chosen", "rejected"))
        tokens = found["chosen"].lengths.sum()
        assert rows["held-out/preferred"][side] == pytest.approx(float((chosen > rejected).double().mean()))
        assert rows["held-out/chosen_logp"][side] == pytest.approx(float(chosen.sum() / tokens), abs=1e-8)
    assert rows["held-out/chosen_logp"]["difference"] != 0
    assert result["weights"]["base"] == held(run / "train.json")["identity"]["base weights"]
    assert result["weights"]["tuned"] == held(run / "train.json")["weights"]
    assert list(held(run / "evaluation.json")["measures"]) == list(rows)  # in order
    kept = held(run / "answers" / "answers.json")["rows"]
    assert len(kept) == 2
    assert all(isinstance(row[side], str) for row in kept for side in ("base", "tuned"))
    assert all((run / "answers" / name).is_file() for row in kept for name in row["images"])


def test_the_worlds_test_is_asked_of_both(finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished("full"), tmp_path / "run")
    result = evaluate_vlm(run, [*SHORT, "evaluation.questions=shapes/tune", "evaluation.limit=2"])
    first, row = next(iter(result["measures"].items()))
    assert first == "hallucinated"
    assert (row["prompts"], row["samples"], row["higher_is_better"]) == (2, 4, False)
    assert result["measures"]["unread"]["samples"] == len(exam("tune", limit=2)) == 32
    only = evaluate_vlm(run, ["evaluation.questions=shapes/tune", "evaluation.limit=1", "evaluation.held_out_pairs=0"])
    assert only["held_out"] is None
    assert not any(name.startswith("held-out") for name in only["measures"])
    assert only["measures"]["hallucinated"]["low"] is None  # of one scene


def test_both_sides_of_a_full_fine_tune_are_its_own(finished: Finished) -> None:
    run = finished("full")
    first, second = sides(finished_vlm(run)[1], run)
    assert [first.name, second.name] == ["base", "tuned"]
    assert first.weights == held(run / "train.json")["identity"]["base weights"]
    assert second.weights == held(run / "train.json")["weights"]


def test_what_would_not_be_held_out_is_refused(finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished("lora"), tmp_path / "run")
    with pytest.raises(ValueError, match=r"held_out_pairs: 1, and the run held 2 out"):
        evaluate_vlm(run, ["evaluation.held_out_pairs=1"])
    with pytest.raises(ValueError, match="changes the section evaluation only"):
        evaluate_vlm(run, ["method.beta=3"])
    with pytest.raises(ValueError, match="nothing to ask"):
        evaluate_vlm(run, ["evaluation.held_out_pairs=0"])
    summary = held(run / "train.json")
    summary["identity"]["held-out rows"] = "others"
    (run / "train.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match="not those of the training any more"):
        evaluate_vlm(run, SHORT)
    (run / "train.json").unlink()
    with pytest.raises(ValueError, match="no finished weights yet"):
        evaluate_vlm(run)


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    """Two questions about each of two images."""
    for name, colour in (("a.jpg", "red"), ("b.jpg", "blue")):
        (tmp_path / "pope").mkdir(exist_ok=True)
        (tmp_path / "pope" / name).write_bytes(png(colour, (28, 28)))
    return vlm_files.pope(tmp_path / "pope")


def test_a_benchmark_is_asked_of_both_models_once(
    finished: Finished, pope: Path, tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second model, it goes on with what is left; then nothing is asked again."""
    run, asked = copy_of(finished("lora"), tmp_path / "run"), list[int]()
    real, options = vlm_run_benchmark.sampled_answers, [*SHORT, "evaluation.batch_size=2"]

    def counted(vlm, questions, *rest):  # type: ignore[no-untyped-def]
        asked.append(len(questions))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(vlm, questions, *rest)

    monkeypatch.setattr(vlm_run_benchmark, "sampled_answers", counted)
    monkeypatch.setattr(vlm_run_benchmark, "KEPT", 2)
    with pytest.raises(KeyboardInterrupt):
        benchmark_run(run, "pope", Tools([pope]), overrides=options)
    done = main("eval", run, *options, "--benchmark", "pope", "--questions", pope)
    assert done.code == 0, done.err
    assert "4 of 4 questions answered" in done.out
    assert asked == [2, 2, 2, 2, 2]
    result = held(run / "evaluation-pope.json")
    assert set(result["parts"]["coco_pope_random"]["accuracy"]) >= {"base", "tuned", "difference", "low", "high"}
    assert result["parts"]["coco_pope_random"]["accuracy"]["clusters"] == 2
    main("eval", run, *options, "--benchmark", "pope", "--questions", pope)
    assert len(asked) == 5
    with quiet_transformers():
        tuned = AutoModelForImageTextToText.from_pretrained(run / "adapter", dtype=torch.float64)
    assert any("lora_" in name for name, _ in tuned.named_parameters())  # `mmpo respond --model RUN/adapter` takes it


def test_a_missing_image_is_named(finished: Finished, pope: Path, tmp_path: Path) -> None:
    run = copy_of(finished("lora"), tmp_path / "run")
    (pope.parent / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 questions could not be asked, the first: .*b\.jpg"):
        benchmark_run(run, "pope", Tools([pope]), overrides=SHORT)
    result = benchmark_run(run, "pope", Tools([pope]), overrides=SHORT, partial=True)
    assert result["answered"] == 2


def test_options_that_do_not_fit_are_refused(finished: Finished, pope: Path, main: Main) -> None:
    run = finished("lora")
    asked = ["eval", run, "--benchmark", "pope", "--questions", pope]
    assert_refused(main(*asked, "--answers", pope), "--answers", "RUN's own models answer")
    assert_refused(main("eval", "--benchmark", "pope", "--questions", pope, "--images", pope), "--images", "RUN")
    assert_refused(main("eval", run, "--export", "geneval"), "recipe of `mmpo train` for answers")
    assert_refused(main("eval", run, "--images", pope), "--images", "--benchmark")
