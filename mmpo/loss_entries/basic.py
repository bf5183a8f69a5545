"""The first losses: DPO, its hinge, IPO, MinorDPO, and the control."""

from __future__ import annotations

from mmpo.loss_entry import BETA, LossEntry, Option, option, options

ENTRIES = {
    "dpo": LossEntry(
        "Direct preference optimisation",
        "arXiv 2305.18290; diffusion: 2311.12908",
        formula="-log sigmoid(beta * Δ)",
        options=options(beta=BETA),
    ),
    "hinge": LossEntry(
        "Hinge on the DPO logit",
        "arXiv 2305.10425, 2309.06657",
        formula="max(0, 1 - beta * Δ)",
        options=options(beta=BETA),
    ),
    "ipo": LossEntry(
        "Identity preference optimisation",
        "arXiv 2310.12036",
        formula="(Δ - 1 / (2 tau))^2",
        options=options(tau=Option(default=0.1, surrogate=5000.0), length_normalized=option(False, tokens_only=True)),
    ),
    "minor_dpo": LossEntry(
        "MinorDPO, one-sided reject penalty",
        "arXiv 2408.09834 (equation not seen in full)",
        formula="-log sigmoid(beta * δ_chosen - beta * max(0, δ_rejected))",
        options=options(beta=BETA),
        unverified="the paper's equation: third-party code and two descriptions agree on this form",
    ),
    "sft": LossEntry(
        "Supervised fine-tuning on the chosen (control)", "", formula="-logp_chosen", needs_reference=False
    ),
}
