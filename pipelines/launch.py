"""Several processes: `mmpo train` starts itself through accelerate where asked to, or where several GPUs are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def inside_launcher() -> bool:
    """Whether a launcher (accelerate, torchrun, a cluster) already started this process; it is never started again."""
    return "RANK" in os.environ or "LOCAL_RANK" in os.environ


def should_launch(launcher: Sequence[str]) -> bool:
    """Whether to start workers: launcher options after `--`, or more than one GPU."""
    if inside_launcher():
        return False
    if launcher:
        return True
    import torch

    return torch.cuda.device_count() > 1


def launch(arguments: Sequence[str], launcher: Sequence[str]) -> int:
    """Runs `mmpo ARGUMENTS` under `accelerate launch LAUNCHER` and returns its exit code."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *_for_this_machine(launcher),
        "-m",
        "pipelines.cli",
        *arguments,
    ]
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()  # the workers got the signal too; they write a checkpoint and end


def _for_this_machine(launcher: Sequence[str]) -> list[str]:
    """Launcher options that also work without a GPU.

    accelerate starts several processes on one machine only under --multi_gpu; on a machine with CPUs alone it would
    start a single one and say nothing. The workers themselves then choose gloo on the CPU.
    """
    import torch

    options = list(launcher)
    if torch.cuda.is_available() or "--num_processes" not in " ".join(options):
        return options
    options = [option for option in options if option not in ("--cpu", "--multi_gpu")]
    return ["--multi_gpu", *options]
