"""A stranger's way, each command in a process of its own: pairs, captions and a checkpoint to a documented LoRA."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import tiny
from command_line import MMPO, environment


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What the stranger has: `my pairs/w/*.png` with captions, `my pairs/l/*.png`, and a diffusers folder."""
    for number, group in enumerate(tiny.make_groups(30)):
        for side, candidate in zip("wl", group.candidates, strict=True):
            (tmp_path / "my pairs" / side).mkdir(parents=True, exist_ok=True)
            (tmp_path / "my pairs" / side / f"{number:03d}.png").write_bytes(candidate.image)
        (tmp_path / "my pairs" / "w" / f"{number:03d}.txt").write_text(group.prompt.text + "\n")
    tiny.make_sd(tmp_path / "checkpoint")
    return tmp_path


def test_from_pairs_to_a_report_in_three_commands(place: Path) -> None:
    """Each command ends without an error and names the next, which is then run as it was named."""
    offline = {**environment(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(command: str) -> list[str]:
        words = shlex.split(command)
        assert words[0] == "mmpo"
        done = subprocess.run(
            [str(MMPO), *words[1:]], capture_output=True, text=True, cwd=place, env=offline, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # nor a library's warning at import
        return done.stdout.splitlines()

    said = run("mmpo init")
    recipe = place / "diffusion_dpo.yaml"
    lines = recipe.read_text().splitlines()
    marked = [number for number, line in enumerate(lines) if "<- edit" in line and not line.startswith("##")]
    assert len(marked) == 2
    for number, value in zip(marked, ["checkpoint", "my pairs"], strict=True):
        key = lines[number].partition(":")[0]
        lines[number] = f"{key}: {value}"
    recipe.write_text("\n".join(lines) + "\n")
    (following,) = [line.strip() for line in said if line.strip() == f"mmpo train {recipe.name}"]
    said = run(f"{following} train.steps=4 train.batch_size=4 evaluation.every=2 evaluation.sampling.steps=3")
    assert "24 training pairs, 6 held out" in said
    assert said[-1].startswith("next: mmpo report ")
    said = run(said[-1].removeprefix("next: "))
    assert said[-1].startswith("next: mmpo push ")
    page = (place / "runs" / "diffusion-dpo" / "report.html").read_text()
    assert page.count("<img") >= 4 * 3  # four previews at the steps 0, 2 and 4
    assert {"README.md", "pytorch_lora_weights.safetensors", "recipe.yaml", "samples"} <= set(
        os.listdir(place / "runs" / "diffusion-dpo")
    )
