"""What a recipe must know of each loss, without torch: options, defaults, needs, paper. Tests hold it to `LOSSES`."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Option:
    """One number that a loss takes.

    Args:
        default: for summed token log-likelihoods.
        surrogate: default for the denoising and flow surrogates (logp := −½ · mean squared error).
        above: exclusive lower bound.
    """

    default: float
    surrogate: float
    above: float = 0.0


@dataclass(frozen=True, slots=True)
class LossEntry:
    """One row of the table: title and paper, family, options, whether it compares with a reference."""

    title: str
    paper: str
    family: str = "pair"
    options: MappingProxyType[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    needs_reference: bool = True


_BETA = MappingProxyType({"beta": Option(default=0.1, surrogate=5000.0)})

LOSS_TABLE: dict[str, LossEntry] = {
    "dpo": LossEntry("Direct preference optimisation", "arXiv 2305.18290; diffusion: 2311.12908", options=_BETA),
    "hinge": LossEntry("Hinge on the DPO logit", "arXiv 2305.10425, 2309.06657", options=_BETA),
    "ipo": LossEntry(
        "Identity preference optimisation",
        "arXiv 2310.12036",
        options=MappingProxyType({"tau": Option(default=0.1, surrogate=5000.0)}),
    ),
    "minor_dpo": LossEntry(
        "MinorDPO, one-sided reject penalty", "arXiv 2408.09834 (equation not seen in full)", options=_BETA
    ),
    "sft": LossEntry("Supervised fine-tuning on the chosen (control)", "", needs_reference=False),
}
