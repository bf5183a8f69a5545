"""One row of the table of rewards, without torch: what it is, what it takes and gives, whose weights it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Takes = Literal["image", "response", "pair"]


@dataclass(frozen=True, slots=True)
class RewardEntry:
    """One reward.

    Args:
        target: "module:callable"; called with the options.
        title: what it measures, in a line.
        takes: "image": an image for a prompt; "response": a text answer to a question about an image; "pair": it
            compares two of a prompt.
        range: what its values are and where they usually lie.
        preprocessing: what it does to an image and to a text, exactly.
        weights: hub name or file it loads by default; empty where it has none.
        licence: of its weights, or of the formula's code.
        paper: authors, title, arXiv id.
        options: what each option means, with its default.
        unverified: what nobody has checked, such as scores of the published weights.
    """

    target: str
    title: str
    range: str
    preprocessing: str
    takes: tuple[Takes, ...] = ("image",)
    weights: str = ""
    licence: str = ""
    paper: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unverified: str = ""


MODEL_OPTIONS = MappingProxyType(
    {
        "weights": "another hub name, or a local folder, of a transformers CLIP",
        "revision": "branch, tag or commit on the hub; default: main, which is not pinned",
        "device": "default: cuda where there is one, else cpu",
        "dtype": "of the model: float32, bfloat16 or float16; the last product is float32 anyway. Default: float32",
        "batch_size": "rows at once; in float32 scores do not depend on it, in bfloat16 by its rounding. Default: 32",
    }
)
"""Options of every reward that runs a model."""
