"""Counter-based randomness: a generator of its own for each thing drawn, whatever the batch, process or order."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, group: str, visit: int, stream: str) -> torch.Generator:
    """A CPU generator of its own for one quantity (`stream`) of one visit of one group."""
    text = f"{seed}/{group}/{visit}/{stream}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return torch.Generator().manual_seed(number & (2**63 - 1))
