"""Trainings in processes of their own: killed and resumed, and split over two processes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import forks
import killing
import pytest
import tiny
import torch
import two_processes

from mmpo.training.checkpoints import load_checkpoint
from mmpo.training.folders import list_checkpoints
from mmpo.training.metrics import read_metrics


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_killed_and_resumed_is_bit_identical(kind: str, tmp_path: Path) -> None:
    """Three SIGKILLs at random moments: the end is the uninterrupted run's. Many more in scripts/soak.sh."""
    done = forks.call(killing.main, ["--kind", kind, "--kills", "3", "--folder", str(tmp_path)])
    assert done.code == 0, done
    assert "3 kills" in done.out


def test_ctrl_c_writes_a_checkpoint(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """SIGINT finishes the step, writes a checkpoint, says how to go on and ends with 130, without a traceback."""
    tree = tiny.recipe_tree(sd_folder, pairs_folder, tmp_path / "run", train__steps=5000, train__checkpoint_every=5000)
    tree["evaluation"]["every"] = 5000
    (tmp_path / "recipe.json").write_text(json.dumps(tree))  # JSON is YAML
    running = forks.start(forks.mmpo, "train", tmp_path / "recipe.json")
    until = time.monotonic() + 120
    while len(read_metrics(tmp_path / "run")) < 4 and time.monotonic() < until and running.process.is_alive():
        time.sleep(0.1)
    os.kill(running.process.pid, signal.SIGINT)
    ended = running.end(timeout=60)
    assert ended.code == 130, ended
    assert "--resume" in ended.err
    assert "Traceback" not in ended.err
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    assert load_checkpoint(checkpoint).step == read_metrics(tmp_path / "run")[-1]["step"]


def write_recipe(
    folder: Path, name: str, model: Path, data: Path, precision: str, steps: int, method: dict | None = None
) -> Path:
    """A recipe of 8 pairs a step as JSON; its run goes to FOLDER/NAME.

    In float32 both runs forward four pairs at a time: the gradient is a small difference of large sums, and other
    shapes round it differently (3e-6). In float64 the one process forwards all eight at once.
    """
    tree = tiny.recipe_tree(
        model,
        data,
        folder / name,
        train__precision=precision,
        train__steps=steps,
        train__batch_size=8,
        train__micro_batch_size=4 if precision == "fp32" else None,
        train__checkpoint_every=steps,
        model__lora=None,
        optim__lr=1e-4,
    )
    tree["method"] = method or {}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(tree))
    return file


def read_run(folder: Path, processes: int) -> tuple[dict, list]:
    """(tensors of the last checkpoint, sorted draws of all ranks)."""
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]
    assert all(len(rows) == len(ranks[0]) for rows in ranks)
    checkpoint = load_checkpoint(list_checkpoints(folder)[-1])
    return dict(checkpoint.tensors), sorted(tuple(row) for rows in ranks for row in rows)


def test_two_processes_are_one(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """Same rows and draws; one step's gradient within 1e-6 (float32), ten steps within 1e-9 (float64).

    Diffusion-KTO's baseline is a mean over the whole batch: taken per process, the ten steps would differ by far more.
    Without weight on the rejected both sides rise, so that it is above 0, where it is cut.

    After one step AdamW's first moment is (1 − β1) times the gradient, so checkpoints show the gradients.
    """
    kinds = {
        "32": ("fp32", 1),
        "64": ("fp64", 10),
        "kto": ("fp64", 10, {"loss": "diffusion_kto", "undesirable_weight": 0}),
    }
    runs = {f"{side}{kind}": how for side in ("one", "two") for kind, how in kinds.items()}
    files = {name: write_recipe(tmp_path, name, sd_folder, pairs_folder, *how) for name, how in runs.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the two processes: another number of threads rounds float32 sums differently
    try:
        for kind in kinds:
            two_processes.train_recorded(files[f"one{kind}"])
    finally:
        torch.set_num_threads(threads)
    done = forks.ranks(2, two_processes.main, [str(files[f"two{kind}"]) for kind in kinds])
    assert done.code == 0, done

    (one, rows_one), (two, rows_two) = read_run(tmp_path / "one32", 1), read_run(tmp_path / "two32", 2)
    assert rows_one == rows_two
    assert len(rows_one) == 8
    names = [name for name in one["optimizer"] if name.endswith("exp_avg")]
    first, second = (torch.cat([end["optimizer"][name].double().flatten() for name in names]) for end in (one, two))
    assert first.norm() > 0
    assert (first - second).norm() / first.norm() <= 1e-6

    for kind in ("64", "kto"):
        (one, rows_one), (two, rows_two) = read_run(tmp_path / f"one{kind}", 1), read_run(tmp_path / f"two{kind}", 2)
        assert rows_one == rows_two
        for name, tensor in one["weights"].items():
            assert tensor.dtype == torch.float64
            assert (tensor - two["weights"][name]).abs().max() <= 1e-9


def fsdp_recipe(folder: Path, name: str, model: Path, data: Path, *, lora: bool, **changes: Any) -> Path:
    """Four float64 steps with a moving average and spread weights; one process alone holds them whole."""
    tree = tiny.recipe_tree(
        model,
        data,
        folder / name,
        **{
            "train__precision": "fp64",
            "train__steps": 4,
            "train__batch_size": 4,
            "train__checkpoint_every": 2,
            "train__ema": 0.9,
            "train__distribution": "fsdp2",
            "model__lora": {"rank": 4} if lora else None,
            "optim__lr": 1e-3 if lora else 1e-4,
            **changes,
        },
    )
    tree["evaluation"] |= {"held_out_pairs": 3, "every": 2}  # an odd number: the processes hold out unequal shares
    (folder / f"{name}.json").write_text(json.dumps(tree))
    return folder / f"{name}.json"


def test_spread_weights_train_save_and_resume(tmp_path: Path, sd_folder: Path, pairs_folder: Path) -> None:
    """FSDP2 on two processes: the weights of one process within 1e-9, and exactly those after a resume."""
    asked: list[str] = []
    for kind in ("lora", "full"):
        how = {"lora": kind == "lora"}
        one, two, rest = (
            fsdp_recipe(tmp_path, f"{kind}-{name}", sd_folder, pairs_folder, **how) for name in ("one", "two", "rest")
        )
        half = fsdp_recipe(tmp_path, f"{kind}-half", sd_folder, pairs_folder, **how, train__steps=2)
        rest.write_text(json.dumps(json.loads(rest.read_text()) | {"output": str(tmp_path / f"{kind}-half")}))
        two_processes.train_recorded(one)
        asked += [str(two), str(half), f"{rest}:resume"]
    done = forks.ranks(2, two_processes.main, asked)
    assert done.code == 0, done
    for kind in ("lora", "full"):
        runs = [tmp_path / f"{kind}-{name}" for name in ("one", "two", "half")]
        one, two, half = (dict(load_checkpoint(list_checkpoints(run)[-1]).tensors) for run in runs)
        for part in ("weights", "ema"):
            for name, tensor in one[part].items():
                assert (tensor - two[part][name]).abs().max() <= 1e-9
                assert torch.equal(two[part][name], half[part][name])
        held_out = [[x["eval/accuracy"] for x in read_metrics(run) if "eval/accuracy" in x] for run in runs[:2]]
        assert held_out[0] == held_out[1]
