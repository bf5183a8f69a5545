"""`mmpo env`: the block to paste into an issue. Versions are read from metadata; torch is never imported."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "datasets", "safetensors",
    "huggingface_hub", "pydantic", "pyarrow", "pillow", "open_clip_torch",
)  # fmt: skip
OPTIONAL_PACKAGES = ("bitsandbytes", "xformers", "wandb", "deepspeed")
VARIABLES = (
    "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_TF32_OVERRIDE", "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "RANK", "LOCAL_RANK", "WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "MMPO_DEBUG",
)  # fmt: skip
_SECRET = re.compile(r"(TOKEN|KEY|PASSWORD|SECRET)$|proxy$", re.IGNORECASE)  # a proxy's address may hold a password
_SMI_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card as the driver names it; `memory` is in GB, None where the driver does not say."""

    name: str
    memory: float | None
    driver: str


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What a torch was built for, read off its files: `cuda` and `hip` are versions, or None."""

    version: str
    cuda: str | None
    hip: str | None


def environment_lines(variables: Mapping[str, str] | None = None) -> Iterator[str]:
    """Versions, hardware and the variables that change what mmpo does; of secrets only that they are set."""
    yield f"{'mmpo':<18} {installed('mmpo') or 'not installed'}"
    yield f"{'python':<18} {platform.python_version()} ({platform.python_implementation()})"
    yield f"{'platform':<18} {platform.platform()}"
    build = torch_build()
    for name in PACKAGES:
        found = installed(name) or "not installed"
        yield f"{name:<18} {build.version if name == 'torch' and build is not None else found}"
    for name in OPTIONAL_PACKAGES:
        if installed(name) is not None:
            yield f"{name:<18} {installed(name)}"
    if build is not None:
        yield f"{'torch built for':<18} {_built_for(build)}"
    cards = gpus()
    for card in cards:
        yield f"{'gpu':<18} {card.name}, {_gigabytes(card.memory)}, driver {card.driver}"
    if not cards:
        yield f"{'gpu':<18} none found by nvidia-smi"
    yield f"{'cpus':<18} {os.cpu_count() or 'unknown'}"
    yield f"{'memory':<18} {_gigabytes(total_memory())}"
    variables = os.environ if variables is None else variables
    for name in VARIABLES:
        if name in variables:
            yield f"{name:<18} {'set' if _SECRET.search(name) else variables[name]}"


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def torch_build() -> TorchBuild | None:
    """What the installed torch was built for, without importing it; None where there is none."""
    try:
        spec = find_spec("torch")
    except ValueError:
        return None
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).with_name("version.py")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    number = _assigned(text, "__version__") or installed("torch") or "unknown"
    return TorchBuild(number, _assigned(text, "cuda"), _assigned(text, "hip"))


def gpus(command: str = "nvidia-smi") -> list[Gpu]:
    """The cards that NVIDIA's driver sees; none without the driver, or when it does not answer in time."""
    program = shutil.which(command)
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu(line) for line in done.stdout.splitlines() if line.count(",") >= 2]


def total_memory() -> float | None:
    """GB of the machine's memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def _gpu(line: str) -> Gpu:
    name, memory, driver = (part.strip() for part in line.rsplit(",", 2))
    mebibytes = float(memory) if memory.isdigit() else None
    return Gpu(name, mebibytes * 2**20 / 1e9 if mebibytes is not None else None, driver)


def _assigned(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*(?::[^=]+)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def _built_for(build: TorchBuild) -> str:
    if build.cuda is not None:
        return f"CUDA {build.cuda}"
    return f"ROCm {build.hip}" if build.hip is not None else "the CPU alone"


def _gigabytes(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.1f} GB"
