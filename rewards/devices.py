"""The options `device` and `dtype` of rewards that run a model."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(device: str | None) -> str:
    """The device asked for; without one cuda where there is one, else cpu.

    Raises:
        ValueError: no such device, or not on this machine.
    """
    named = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(named).type
    except (RuntimeError, TypeError):
        raise ValueError(f"device: expected cpu, cuda or cuda:NUMBER, got {device!r}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {named}: torch sees no GPU on this machine; leave it out, or use cpu")
    return named


def dtype_of(dtype: str) -> torch.dtype:
    """The dtype of this name.

    Raises:
        ValueError: unknown name.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype]
