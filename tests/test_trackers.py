"""Trackers beside metrics.jsonl: what they are told, and what is refused before a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmpo.training import trackers
from mmpo.training.metrics import MetricsLog, read_metrics
from mmpo.training.trackers import TensorBoard, WeightsAndBiases, check_trackers


class Recorder:
    """Stands in for the wandb package: keeps what it is told."""

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0
        self.codes: list[int] = []

    def init(self, **options: Any) -> Any:
        """As `wandb.init`."""
        self.inits.append(options)
        return SimpleNamespace(id=options["id"] or "new-id", log=self.log, finish=self.finish)

    def log(self, values: dict[str, Any], step: int) -> None:
        """As `Run.log`."""
        self.logged.append((step, values))

    def finish(self, exit_code: int = 0) -> None:
        """As `Run.finish`."""
        self.codes.append(exit_code)
        self.finished += 1

    def Image(self, pixels: Any, caption: str) -> Any:
        """As `wandb.Image`."""
        return ("image", pixels.shape, caption)


def test_wandb_is_told_numbers_pictures_and_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    wandb = Recorder()
    tracker = WeightsAndBiases(tmp_path / "run", 0, {"output": "x"}, wandb)
    tracker.scalars(3, {"loss": 0.5})
    tracker.image(3, "previews", np.zeros((2, 4, 3), np.uint8), "step 3")
    tracker.close()
    assert wandb.inits[0]["project"] == "mmpo"
    assert wandb.inits[0]["name"] == "run"
    assert wandb.inits[0]["config"] == {"output": "x"}
    assert wandb.logged == [(3, {"loss": 0.5}), (3, {"previews": ("image", (2, 4, 3), "step 3")})]
    assert wandb.finished == 1


def test_a_resumed_run_goes_on_there_and_a_new_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    wandb = Recorder()
    WeightsAndBiases(tmp_path, 0, {}, wandb)
    assert json.loads((tmp_path / "wandb.json").read_text()) == {"id": "new-id"}
    WeightsAndBiases(tmp_path, 10, {}, wandb)
    WeightsAndBiases(tmp_path, 0, {}, wandb)
    assert [options["id"] for options in wandb.inits] == [None, "new-id", None]
    assert [options["resume"] for options in wandb.inits] == [None, "allow", None]
    assert {options["project"] for options in wandb.inits} == {"mine"}


def test_the_log_tells_every_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Recorder()
    monkeypatch.setattr(trackers, "WeightsAndBiases", lambda *a: WeightsAndBiases(*a, wandb=wandb))
    log = MetricsLog(tmp_path, start=0, enabled=True, report_to=["wandb", "tensorboard"], config={})
    log.write(1, {"loss": 0.7})
    log.image(1, "previews", np.zeros((2, 2, 3), np.uint8), "")
    log.close()
    assert len(wandb.logged) == 2
    assert (tmp_path / "tensorboard").is_dir()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.7}]


def test_the_file_is_written_without_any_tracker(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, start=0, enabled=True, report_to=[])
    log.write(1, {"loss": 0.7})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_takes_both(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoard(tmp_path, 0)
    tracker.scalars(2, {"loss": 0.25})
    tracker.image(2, "previews", np.zeros((2, 2, 3), np.uint8), "")
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 0.25)]
    assert [event.step for event in events.Images("previews")] == [2]


def test_a_tracker_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else object())
    check_trackers(["tensorboard"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ValueError, match=r"wandb is not installed; pip install 'mmpo\[wandb\]'"):
        check_trackers(["tensorboard", "wandb"])


def test_wandb_without_a_login_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"wandb login.*WANDB_MODE=offline"):
        check_trackers(["wandb"])
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    check_trackers(["wandb"])
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    check_trackers(["wandb"])


def test_a_failed_run_is_closed_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open run would take the next training's numbers."""
    wandb = Recorder()
    monkeypatch.setattr(trackers, "WeightsAndBiases", lambda *a: WeightsAndBiases(*a, wandb=wandb))
    with pytest.raises(RuntimeError), MetricsLog(tmp_path, start=0, enabled=True, report_to=["wandb"]):
        raise RuntimeError("in training")
    with MetricsLog(tmp_path, start=0, enabled=True, report_to=["wandb"]):
        pass
    assert wandb.codes == [1, 0]


def test_a_refusal_by_wandb_is_a_plain_error(tmp_path: Path) -> None:
    error = type("CommError", (Exception,), {"__module__": "wandb.errors"})

    class Refusing(Recorder):
        def init(self, **options: Any) -> Any:
            raise error("no such project")

    with pytest.raises(ValueError, match="no such project"):
        WeightsAndBiases(tmp_path, 0, {}, Refusing())
