"""LoRA on a vision-language model, by peft: on the language model, on the projector by choice, never on the head."""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from torch import nn

from mmpo.models.vlm_parts import Part, VlmParts, bare, check_trained, vlm_parts
from mmpo.suggest import nearest

Targets = Literal["language", "language_projector"] | list[str]


def add_vlm_lora(
    model: Any, *, rank: int, alpha: float | None = None, targets: Targets = "language", dropout: float = 0.0, seed: int
) -> dict[Part, int]:
    """Adds a trainable adapter and freezes everything else. Its output is exactly 0 until the first step.

    Args:
        model: of transformers, without an adapter; its weights keep their dtype, the adapter's are float32 (float64
            for float64).
        rank, alpha: of the adapter; alpha None is the rank.
        targets: "language": every linear layer of the language model. "language_projector": the projector's too. A
            list: layers whose name, or whose name's end, is in it, outside of the vision tower; those of the tower
            only by a name that begins with the tower's own.
        dropout: share of the adapter's inputs that is dropped while training.
        seed: of the adapter's initial weights (Gaussian A, zero B).
    Returns:
        How many numbers are trained, by part of the model.
    Raises:
        ValueError: no layer matches, or the head does.
    """
    from peft import LoraConfig

    parts = vlm_parts(model)
    names = lora_layers(model, targets)
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha if alpha is not None else rank,
        target_modules=_pattern(model, names),
        lora_dropout=dropout,
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(config)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    adapted = {name.partition(".lora_A")[0] for name, _ in bare(model).named_parameters() if ".lora_A." in name}
    assert adapted == set(names), adapted ^ set(names)
    allowed = {part for part in (parts.part_of(name) for name in names) if part is not None}
    return check_trained(model, allowed, adapters_only=True)


def lora_layers(model: Any, targets: Targets) -> list[str]:
    """The linear layers that targets stand for, by full name.

    Raises:
        ValueError: an entry of a list matches no layer, or the head.
    """
    parts = vlm_parts(model)
    linear = [name for name, module in bare(model).named_modules() if isinstance(module, nn.Linear)]
    if not isinstance(targets, list):
        wanted = ("language",) if targets == "language" else ("language", "projector")
        return [name for name in linear if parts.part_of(name) in wanted]
    found: list[str] = []
    for target in targets:
        hits = [name for name in linear if _matches(name, target) and _may(parts, name, target)]
        if target == parts.head.rpartition(".")[2] or parts.head in hits:
            raise ValueError(f"model.lora.targets: {target} is the output head, which is never adapted; leave it out")
        if not hits:
            ends = sorted(
                {name.rpartition(".")[2] for name in linear if parts.part_of(name) in ("language", "projector")}
            )
            guess = nearest(target, ends)
            hint = f"; did you mean {guess}?" if guess else f"; there are: {', '.join(ends)}"
            raise ValueError(
                f"model.lora.targets: no linear layer outside of the vision tower is named {target!r}{hint}"
            )
        found += [name for name in hits if name not in found]
    return found


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target) or name.startswith(target + ".")


def _may(parts: VlmParts, name: str, target: str) -> bool:
    """Whether a layer may be meant: one of the tower only where the target says so by its full name."""
    return parts.part_of(name) != "vision" or any(target == top or target.startswith(top + ".") for top in parts.vision)


def _pattern(model: Any, names: list[str]) -> str:
    """A pattern of exactly these names, short where layers are numbered: peft matches it against the full name."""
    modules = [name for name, _ in bare(model).named_modules()]
    shapes: list[str] = []
    for name in names:
        if any(re.fullmatch(shape, name) for shape in shapes):
            continue
        shape = re.sub(r"\\\.\d+(?=\\\.|$)", r"\\.\\d+", re.escape(name))
        whole = all(other in names for other in modules if re.fullmatch(shape, other))
        shapes.append(shape if whole else re.escape(name))
    return "|".join(shapes)
