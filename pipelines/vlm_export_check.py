"""The fresh process of `mmpo export --verify` of a vision-language model: loads an export, compares it with the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import load_vlm, stored_dtype
from mmpo.models.vlm_parts import bare
from pipelines.export_verify import Check
from pipelines.report_run import ADAPTER, MODEL, VlmRun
from pipelines.vlm_sides import put_adapter

TOKENS = 1e-4
"""Largest difference of a logit, as a share of the largest logit, in float32."""
QUESTION = "What is in the picture?"
Weights = dict[str, Tensor]


@torch.no_grad()
def check_vlm_export(run: VlmRun, kind: str, place: Path) -> list[Check]:
    """Compares an export with its run, in float32: every weight, and the logits of a question about a picture.

    Args:
        kind: one of `VLM_KINDS`.
        place: what `export_vlm` returned.
    Raises:
        ValueError: the run, or the base that it was trained from, cannot be loaded.
    """
    model, lora = run.recipe.model, run.recipe.model.lora is not None
    with quiet_transformers():
        own = load_vlm(
            model.path if lora else str(run.folder / MODEL),
            revision=model.revision if lora else None,
            dtype=torch.float32,
            max_pixels=model.max_pixels,
        )
        inputs = _question(own.processor)
        before = {name: tensor.clone() for name, tensor in own.model.state_dict().items()}
        plain = _logits(own.model, inputs)
        if kind == "peft":
            return list(_adapter_checks(run, own.model, place, inputs, plain))
        if lora:
            put_adapter(own.model, run.folder / ADAPTER)
        tuned = _logits(own.model, inputs)
        try:
            opened = load_vlm(str(place), dtype=torch.float32)
        except ValueError as error:
            return [Check("it loads", False, str(error)[:160], "")]
    dtype = stored_dtype(str(place))
    checks = [Check("it loads", True, "by AutoModelForImageTextToText and AutoProcessor", "")]
    checks.append(_same_inputs(inputs, _question(opened.processor)))
    checks += _weight_checks(own.model, before, opened.model.state_dict(), dtype)
    return [*checks, *_logit_checks(_logits(opened.model, inputs), plain, tuned, dtype, changed=lora)]


def _question(processor: Any) -> Any:
    """One question about a picture as a processor gives it to the model."""
    picture = Image.radial_gradient("L").convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def _logits(model: Any, inputs: Any) -> Tensor:
    return model(**inputs).logits.double()


def _same_inputs(run: Any, export: Any) -> Check:
    odd = sorted(run.keys() ^ export.keys()) or [name for name in run if not torch.equal(run[name], export[name])]
    return Check("processor and chat template are the base's", not odd, f"{odd[0]} is not" if odd else "they are", "")


def _weight_checks(model: Any, before: Weights, merged: Weights, dtype: torch.dtype) -> Iterator[Check]:
    """Layers with a LoRA hold W + Δ as their dtype rounds it; all others are the base's, bit for bit.

    Args:
        model: with the run's adapter on.
        before: the base's weights.
    """
    adapted, lost = dict[str, Tensor](), 0.0
    for name, layer in bare(model).named_modules():
        if hasattr(layer, "get_delta_weight"):
            adapted[f"{name}.weight"] = layer.get_delta_weight(next(iter(layer.scaling))).float()
    others = [name for name in before if name not in adapted]
    odd = sorted(merged.keys() ^ before.keys()) or [n for n in others if not torch.equal(merged[n], before[n])]
    said = f"{len(odd)} are not, the first is {odd[0]}" if odd else f"{len(others)} tensors"
    yield Check("all other weights are the base's", not odd, said, "bit for bit")
    if not adapted:
        return
    worst, where = 0.0, ""
    for name, delta in adapted.items():
        wanted = before[name].float() + delta
        room = torch.finfo(dtype).eps * (wanted.abs() + delta.abs()) + torch.finfo(dtype).tiny
        off = float(((merged[name].float() - wanted).abs() / room).max()) if name in merged else float("inf")
        worst, where = max((worst, where), (off, name))
        kept = merged.get(name, before[name]).float() - before[name].float()
        lost = max(lost, float((kept - delta).norm() / delta.norm().clamp_min(1e-30)))
    found = f"at most {worst:.2f} of a rounding{f' ({where})' if worst > 1 else ''}; changes kept within {lost:.1e}"
    yield Check(
        "weights change as in the run", worst <= 1, found, f"one rounding of {str(dtype).removeprefix('torch.')}"
    )


def _logit_checks(export: Tensor, base: Tensor, tuned: Tensor, dtype: torch.dtype, *, changed: bool) -> Iterator[Check]:
    same, apart = (float((export - other).abs().max()) for other in (tuned, base))
    exact = dtype in (torch.float32, torch.float64)
    if changed:
        least = 10 * same if exact else same
        yield Check("logits differ from the base's", apart > least, f"by {apart:.1e}", f"more than {least:.1e}")
    if exact:
        most = TOKENS * float(tuned.abs().max())
        yield Check("logits equal the run's", same <= most, f"within {same:.1e}", f"at most {most:.0e}")


def _adapter_checks(run: VlmRun, model: Any, place: Path, inputs: Any, plain: Tensor) -> Iterator[Check]:
    """The adapter alone: peft puts it onto the base, and so it is the run's."""
    import warnings

    from peft import PeftModel

    put_adapter(model, run.folder / ADAPTER)
    tuned = _logits(model, inputs)
    model.delete_adapter("default")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
            opened = PeftModel.from_pretrained(model, str(place)).eval()
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        yield Check("it loads", False, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", "")
        return
    yield Check("it loads", True, "by PeftModel.from_pretrained", "")
    yield from _logit_checks(_logits(opened, inputs), plain, tuned, torch.float32, changed=True)
