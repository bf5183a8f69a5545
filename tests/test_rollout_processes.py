"""Runs on own samples in processes of their own: killed and resumed, and split over two processes."""

from __future__ import annotations

import json
from pathlib import Path

import forks
import killing
import torch
import two_processes
from sampling_parts import SPO, STEP_WISE, rollout_tree
from test_processes import read_run


def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    """One SIGKILL, while sampling or training: the end is the uninterrupted run's. Many more in scripts/soak.sh."""
    done = forks.call(killing.main, ["--kind", "d3po", "--kills", "1", "--folder", str(tmp_path)])
    assert done.code == 0, done
    assert "1 kills" in done.out


def write_recipe(model: Path, output: Path, kind: str) -> Path:
    """One step on eight groups, four a forward in one process and in two; its run goes to `output`."""
    tree = rollout_tree(model, output, train__steps=1, train__batch_size=8, train__micro_batch_size=4)
    if kind == "spo":
        tree["rollout"] |= STEP_WISE
        tree["method"] = SPO
    file = output.parent / f"{output.name}.json"
    file.write_text(json.dumps(tree))
    return file


def test_two_processes_are_one(tmp_path: Path, sd_folder: Path) -> None:
    """The stored rounds are the same bit for bit, and the first step's gradient within 1e-6 (AdamW's first moment)."""
    kinds = ("d3po", "spo")
    files = {
        side + kind: write_recipe(sd_folder, tmp_path / (side + kind), kind)
        for side in ("one", "two")
        for kind in kinds
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for kind in kinds:
            two_processes.train_recorded(files[f"one{kind}"])
    finally:
        torch.set_num_threads(threads)
    done = forks.ranks(2, two_processes.main, [str(files[f"two{kind}"]) for kind in kinds])
    assert done.code == 0, done
    for kind in kinds:
        rounds = [tmp_path / f"{side}{kind}" / "rollouts" / "round-00000" for side in ("one", "two")]
        names = sorted(file.name for file in rounds[0].iterdir())
        assert names == sorted(file.name for file in rounds[1].iterdir())
        assert sum(name.endswith(".safetensors") for name in names) == {"d3po": 2, "spo": 4}[kind]
        for name in names:
            assert (rounds[0] / name).read_bytes() == (rounds[1] / name).read_bytes(), name
        (one, rows_one), (two, rows_two) = read_run(tmp_path / f"one{kind}", 1), read_run(tmp_path / f"two{kind}", 2)
        assert rows_one == rows_two
        assert len(rows_one) == 8
        moments = [name for name in one["optimizer"] if name.endswith("exp_avg")]
        first, second = (
            torch.cat([end["optimizer"][name].double().flatten() for name in moments]) for end in (one, two)
        )
        assert first.norm() > 0
        assert (first - second).norm() / first.norm() <= 1e-6
