"""The options `device` and `dtype` of rewards that run a model."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(device: str | None) -> str:
    """The device asked for; without one cuda where there is one, else cpu."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(dtype: str) -> torch.dtype:
    """The dtype of this name.

    Raises:
        ValueError: unknown name.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype]
