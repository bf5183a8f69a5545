"""`mmpo doctor` and `mmpo env`: what is wrong is found with its fix, nothing secret is shown, torch is not imported."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import mmpo
from mmpo.shapes import checkpoints
from pipelines import doctor, environment
from pipelines.doctor import doctor_lines
from pipelines.environment import Gpu, TorchBuild, environment_lines

VARIABLES = ("HF_HOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_ENDPOINT")
CARD = Gpu("Test Card", 24.0, "999.1")
CUDA, CPU = TorchBuild("9.9+cu999", "99.9", None), TorchBuild("9.9+cpu", None, None)


@pytest.fixture(autouse=True)
def _quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, no login, no GPU, whatever this machine has."""
    for name in (*VARIABLES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(doctor, "gpus", lambda: [])
    monkeypatch.setattr(doctor.shutil, "which", lambda command: None)
    monkeypatch.chdir(tmp_path)


def found(*parts: str, ok: bool = True) -> str:
    """The line of the report that holds these parts, with the fix below it."""
    lines, verdict = doctor_lines()
    assert verdict is ok, lines
    at = [number for number, line in enumerate(lines) if all(part in line for part in parts)]
    assert len(at) == 1, (parts, lines)
    after = lines[at[0] + 1]
    return lines[at[0]] + (after if after.startswith("  ") else "")


def has_card(monkeypatch: pytest.MonkeyPatch, cards: list[Gpu], build: TorchBuild) -> None:
    """Makes the machine one with a driver, these cards and this torch."""
    monkeypatch.setattr(doctor, "gpus", lambda: cards)
    monkeypatch.setattr(doctor.shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr(doctor, "torch_build", lambda: build)


# ---------------------------------------------------------------------------------------------------------- doctor


def test_this_machine_has_no_fault() -> None:
    lines, ok = doctor_lines()
    assert ok
    assert not [line for line in lines if line.startswith("fault")]
    assert lines[-1].startswith("no fault; next: mmpo demo")
    assert f"torch {version('torch')}" in found("packages: ")
    shipped = [line.split()[-1] for line in lines if "built-in checkpoint" in line]
    names = ("sd", "sdxl", "sd3", "clip", "step_aware", "llava")
    assert shipped == [f"shapes/{name}" for name in names]


def test_missing_and_old_packages_come_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["torch>=99", "no-such-package>=1", 'x>=1; extra == "dev"'])
    assert 'pip install "torch>=99"' in found("fault", "mmpo needs >=99", ok=False)
    assert 'pip install "no-such-package>=1"' in found("fault", "no-such-package is not installed", ok=False)
    lines, _ = doctor_lines()
    assert lines[-1].startswith("2 faults; next: mend")
    assert "x missing" in found("note", "extra [dev]", ok=False)


def test_an_old_python_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_metadata", lambda key: ">=9.9")
    assert "newer Python" in found("fault", "mmpo needs >=9.9", ok=False)


def test_mmpo_that_is_not_installed_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    assert "pip install -e ." in found("fault", "mmpo is not installed", ok=False)


def test_optional_packages_say_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: None if name == "wandb" else real(name))
    assert "pip install wandb" in found("note", "wandb", "train.report_to")


def test_a_gpu_with_a_torch_for_the_cpu_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    has_card(monkeypatch, [CARD], CPU)
    assert "CUDA build" in found("fault", "Test Card", "built for the CPU alone", ok=False)


def test_a_gpu_with_its_torch_is_fine_unless_it_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    has_card(monkeypatch, [CARD, CARD], CUDA)
    lines, ok = doctor_lines()
    assert ok
    assert lines.count("ok     gpu Test Card, 24 GB, driver 999.1, torch for CUDA 99.9") == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "unset" in found("note", "hides every GPU")


def test_a_driver_without_a_gpu_is_a_fault_and_no_gpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mmpo demo" in found("note", "no GPU")
    has_card(monkeypatch, [], CUDA)
    assert "reboot" in found("fault", "shows no GPU", ok=False)


def test_little_disk_is_told_and_none_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage._replace(free=5 * 10**9))
    assert "set HF_HOME" in found("note", "5 GB free in HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage._replace(free=10**8))
    found("fault", "0 GB free in the current folder", ok=False)


def test_the_login_is_seen_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "hf auth login" in found("note", "not logged in")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found("ok", "logged in")
    assert "hf_secret" not in "\n".join(doctor_lines()[0])
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "token").write_text("hf_secret")
    found("ok", "logged in")


def test_offline_and_mirrors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    found("note", "HF_HUB_OFFLINE is set")
    found("note", "https://mirror.example")


def test_a_users_own_module_that_hides_ours_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("")
    assert "rename it" in found("fault", "rewards.py hides mmpo's package 'rewards'", ok=False)
    (tmp_path / "rewards.py").rename(tmp_path / "other.py")
    (tmp_path / "pipelines").mkdir()  # without an __init__.py it hides nothing
    assert doctor_lines()[1]
    (tmp_path / "pipelines" / "__init__.py").write_text("")
    found("fault", "hides mmpo's package 'pipelines'", ok=False)


def test_ours_in_the_working_folder_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(mmpo.__file__).parent.parent)
    assert not [line for line in doctor_lines()[0] if "hides mmpo" in line]


def test_a_folder_that_cannot_be_written_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert "a folder of your own" in found("fault", "cannot be written to: Permission denied", ok=False)


def test_missing_recipes_and_a_damaged_checkpoint_are_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "shipped_recipes", lambda: {})
    found("fault", "no shipped recipes", ok=False)
    monkeypatch.setattr(checkpoints, "_FOLDER", tmp_path / "shipped")
    found("fault", "shapes/sd:", "not shipped", ok=False)
    shutil.copytree(Path(checkpoints.__file__).parent, tmp_path / "shipped")
    (tmp_path / "shipped" / "sd" / "unet" / "config.json").write_text("")
    found("fault", "missing or empty: sd/unet/config.json", ok=False)


def test_looking_deeper_computes_and_hashes() -> None:
    lines, ok = doctor_lines(deep=True)
    assert ok
    assert any("computes on" in line and "bfloat16" in line for line in lines)
    assert "ok     shapes/sd is what was shipped, by SHA-256" in lines


def test_looking_deeper_finds_changed_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(Path(checkpoints.__file__).parent, tmp_path / "shipped")
    monkeypatch.setattr(checkpoints, "_FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped" / "sd" / "unet" / "config.json").write_text("{}")
    lines, ok = doctor_lines(deep=True)
    assert not ok
    assert any(line.startswith("fault") and "sd/unet/config.json" in line for line in lines)


def test_neither_command_imports_torch_and_both_are_quick() -> None:
    program = (
        "import sys, time\n"
        "from pipelines.doctor import doctor_lines\n"
        "from pipelines.environment import environment_lines\n"
        "doctor_lines(), list(environment_lines())\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'PIL', 'huggingface_hub'} & sys.modules.keys()\n"
        "print([sorted(heavy), time.process_time()])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy, seconds = ast.literal_eval(done.stdout)
    assert heavy == []
    assert seconds <= 1.0


# ------------------------------------------------------------------------------------------------------------- env


def test_versions_and_the_machine_are_in_the_block() -> None:
    lines = dict(line.split(maxsplit=1) for line in environment_lines({}) if not line.startswith("torch built"))
    assert lines["mmpo"] == version("mmpo")
    for name in ("diffusers", "transformers", "accelerate", "peft", "datasets", "safetensors", "huggingface_hub"):
        assert lines[name] == version(name)
    assert lines["torch"].startswith(version("torch").partition("+")[0])
    assert {"python", "platform", "gpu", "cpus", "memory"} <= lines.keys()


def test_variables_are_shown_and_secrets_are_not() -> None:
    given = {
        "HF_HOME": "/data/hub",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HF_TOKEN": "s3cret",
        "WANDB_API_KEY": "s3cret",
        "https_proxy": "http://me:s3cret@proxy",
        "UNRELATED": "s3cret",
    }
    lines = list(environment_lines(given))
    text = "\n".join(lines)
    assert "s3cret" not in text
    assert "UNRELATED" not in text
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert (rows["HF_HOME"], rows["CUDA_VISIBLE_DEVICES"]) == ("/data/hub", "0,1")
    assert (rows["HF_TOKEN"], rows["WANDB_API_KEY"], rows["https_proxy"]) == ("set", "set", "set")


def smi(folder: Path, body: str) -> str:
    """A program in the place of nvidia-smi."""
    file = folder / "fake-smi"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_cards_are_read_from_the_drivers_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real look for programs
    program = smi(tmp_path, "echo 'Card, with a comma, 24576, 550.1'; echo 'Other, [N/A], 550.1'")
    first, second = environment.gpus(program)
    assert (first.name, first.driver) == ("Card, with a comma", "550.1")
    assert first.memory == pytest.approx(25.77, abs=0.01)  # 24 GiB
    assert (second.name, second.memory) == ("Other", None)


def test_a_driver_that_fails_hangs_or_is_not_there_gives_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert environment.gpus(smi(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9")) == []
    assert environment.gpus(smi(tmp_path, "echo 'No devices were found'")) == []
    assert environment.gpus("no-such-program-anywhere") == []
    monkeypatch.setattr(environment, "_SMI_SECONDS", 0.2)
    assert environment.gpus(smi(tmp_path, "exec sleep 30")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", ("12.8", None)),
        ("__version__ = '2.9.0+rocm6.4'\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", (None, "6.4")),
        ("__version__ = '2.9.0+cpu'\ncuda = None\nhip = None\n", (None, None)),
    ],
    ids=["cuda", "rocm", "cpu"],
)
def test_a_torch_build_is_read_without_importing_it(
    text: str, expected: tuple[str | None, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(text)

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(environment, "find_spec", lambda name: Spec)
    build = environment.torch_build()
    assert build is not None
    assert build.version == text.split("'")[1]
    assert (build.cuda, build.hip) == expected
