"""Which submodules of a vision-language model see, translate and speak, and which of their weights are trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Part = Literal["vision", "projector", "language", "head"]

VISION_NAMES = ("vision_tower", "visual", "vision_model", "vision_encoder", "image_tower")
PROJECTOR_NAMES = (
    *("multi_modal_projector", "connector", "mm_projector", "aligner", "embed_vision", "vision_adapter"),
    *("merger", "deepstack_merger_list", "image_newline"),  # the first two are Qwen-VL's, inside its tower
)
LANGUAGE_NAMES = ("language_model", "text_model")


@dataclass(frozen=True)
class VlmParts:
    """Names of submodules, from the model's root.

    Args:
        vision: the tower.
        projector: what maps its features to the language model; in Qwen-VL it stands inside of the tower.
        language: the language model, with its embeddings and without the head.
        head: the linear layer that gives the vocabulary's logits.
    """

    vision: tuple[str, ...]
    projector: tuple[str, ...]
    language: tuple[str, ...]
    head: str

    def part_of(self, name: str) -> Part | None:
        """The part in which a module or parameter stands, or None outside of all."""
        for part in ("projector", "vision", "language"):
            if any(_within(name, prefix) for prefix in getattr(self, part)):
                return part
        return "head" if _within(name, self.head) else None


def bare(model: Any) -> Any:
    """The transformers model under wrappers of distribution and of peft; it shares their weights."""
    while isinstance(getattr(model, "module", None), nn.Module) and not hasattr(model, "get_output_embeddings"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vlm_parts(model: Any) -> VlmParts:
    """The parts of a transformers vision-language model, by the names that its modules have.

    Raises:
        ValueError: no vision tower, language model or head is found.
    """
    model = bare(model)
    names = [name for name, _ in model.named_modules() if name]
    names += [name for name, _ in model.named_parameters() if name.endswith("image_newline")]
    vision = _topmost(names, VISION_NAMES, ())
    language = _topmost(names, LANGUAGE_NAMES, vision)
    projector = _topmost(names, PROJECTOR_NAMES, language)
    output = model.get_output_embeddings()
    head = next((name for name, module in model.named_modules() if module is output), None)
    for what, found in (("vision tower", vision), ("language model", language), ("output head", head)):
        if not found:
            raise ValueError(
                f"model.path: no {what} is found in {type(model).__name__} by the names that transformers gives such "
                "modules; it may be no vision-language model, or of a kind that is not known yet"
            )
    assert head is not None
    return VlmParts(vision, projector, language, head)


def train_only(model: Any, parts: Collection[Part]) -> None:
    """Makes the weights of these parts trainable, and freezes the others: a full fine-tune's choice."""
    found = vlm_parts(model)
    for name, parameter in bare(model).named_parameters():
        parameter.requires_grad_(found.part_of(name) in parts)


def trained_parts(model: Any) -> dict[Part, int]:
    """How many numbers of each part are trained; parts of which none is are left out.

    Raises:
        ValueError: a trained parameter stands in none of the parts.
    """
    found = vlm_parts(model)
    counts: dict[Part, int] = {}
    for name, parameter in bare(model).named_parameters():
        if parameter.requires_grad:
            part = found.part_of(name)
            if part is None:
                raise ValueError(
                    f"model: {name} is trained and stands in no known part of {type(bare(model)).__name__}"
                )
            counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def check_trained(model: Any, allowed: Collection[Part], *, adapters_only: bool) -> dict[Part, int]:
    """The same counts, after making sure that what is trained is what was meant.

    Args:
        allowed: parts that may be trained.
        adapters_only: whether only the weights of a LoRA may be.
    Raises:
        ValueError: nothing is trained, or something else is, with its name.
    """
    counts = trained_parts(model)
    if not counts:
        raise ValueError("model: nothing is trained; give model.lora, or make parts of the model trainable")
    found = vlm_parts(model)
    for name, parameter in bare(model).named_parameters():
        if not parameter.requires_grad:
            continue
        if found.part_of(name) not in allowed:
            raise ValueError(
                f"model: {name} is trained, which is in the {found.part_of(name)}; meant: {sorted(allowed)}"
            )
        if adapters_only and ".lora_" not in name:
            raise ValueError(f"model: {name} is trained beside the LoRA, so the base is no longer the reference")
    return counts


def vision_is_frozen(model: Any) -> bool:
    """Whether image features are the same for policy and reference: nothing before the language model is trained.

    A LoRA in the tower or projector counts as trained even while its weights are frozen.
    """
    found = vlm_parts(model)
    return not any(
        found.part_of(name) in ("vision", "projector") and (parameter.requires_grad or ".lora_" in name)
        for name, parameter in bare(model).named_parameters()
    )


def trained_vision(model: Any) -> list[nn.Parameter]:
    """What is trained of tower and projector, which rows without images do not reach."""
    named = [(name, parameter) for name, parameter in bare(model).named_parameters() if parameter.requires_grad]
    found = vlm_parts(model) if named else None
    return [parameter for name, parameter in named if found and found.part_of(name) in ("vision", "projector")]


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _topmost(names: list[str], wanted: tuple[str, ...], outside: tuple[str, ...]) -> tuple[str, ...]:
    """Modules of these names that stand in no other such one and not in `outside`, which is in full names."""
    hits = [name for name in names if name.rpartition(".")[2] in wanted]
    hits = [name for name in hits if not any(_within(name, prefix) for prefix in outside)]
    return tuple(name for name in hits if not any(name != other and _within(name, other) for other in hits))
