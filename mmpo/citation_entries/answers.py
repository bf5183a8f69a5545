"""Papers on preferences between answers of vision-language models. Their authors' full names were not looked up."""

from __future__ import annotations

from mmpo.citation import paper

ENTRIES = {
    "2402.11411": paper(
        "povid2024aligning",
        "",
        "Aligning Modalities in Vision Large Language Models via Preference Fine-tuning",
        2024,
    ),
    "2406.11839": paper(
        "mdpo2024conditional",
        "",
        "mDPO: Conditional Preference Optimization for Multimodal Large Language Models",
        2024,
    ),
    "2411.02712": paper(
        "vdpo2024mitigating",
        "",
        "V-DPO: Mitigating Hallucination in Large Vision Language Models via Vision-Guided Direct Preference "
        "Optimization",
        2024,
    ),
    "2501.16629": paper(
        "chip2025cross",
        "",
        "CHiP: Cross-modal Hierarchical Direct Preference Optimization for Multimodal LLMs",
        2025,
        "ICLR 2025",
    ),
    "2502.13146": paper(
        "realign2025aligning",
        "",
        "Re-Align: Aligning Vision Language Models via Retrieval-Augmented Direct Preference Optimization",
        2025,
        "EMNLP 2025",
    ),
}
