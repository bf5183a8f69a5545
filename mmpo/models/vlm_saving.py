"""Weights out of a vision-language run: an adapter that peft loads, or a whole folder that transformers loads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmpo.files import replace_folder
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import Vlm, load_vlm
from mmpo.models.vlm_parts import bare

ADAPTER_FILE = "adapter_model.safetensors"
ABOUT_FILE = "mmpo.json"


def save_vlm(folder: Path, vlm: Vlm, about: Mapping[str, Any]) -> Path:
    """Writes what was trained, with the processor beside it, in place of what stood there.

    With a LoRA: `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained(base, folder)` and
    `model.load_adapter(folder)` load them. Without: the whole model, as `AutoModelForImageTextToText` loads it.

    Args:
        folder: replaced whole.
        about: base model, recipe hash and the like, into `mmpo.json`.
    Raises:
        OSError: such as a full disk; the folder is then as it was before.
    """
    model = bare(vlm.model)
    with quiet_transformers(), replace_folder(folder) as partial:
        model.save_pretrained(partial)
        vlm.processor.save_pretrained(partial)
        (partial / ABOUT_FILE).write_text(json.dumps(dict(about), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def merge_vlm(
    adapter: Path,
    out: Path,
    *,
    base: str | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.bfloat16,
    max_pixels: int | None = None,
) -> Path:
    """An adapter merged into its base, as a folder that needs no peft: for serving.

    The base is loaded anew in `dtype`, also where it was quantised while training.

    Args:
        adapter: what `save_vlm` wrote.
        out: replaced whole; model and processor.
        base: the base's name or folder; default: what the adapter names.
        revision: of the base.
        max_pixels: as of `load_vlm`.
    Raises:
        ValueError: no adapter is there, it names no base, or it does not fit it.
    """
    from peft import PeftModel

    if not (adapter / ADAPTER_FILE).is_file():
        raise ValueError(f"adapter {adapter}: holds no {ADAPTER_FILE}; give the folder of a run with a LoRA")
    named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not (base or named):
        raise ValueError(f"adapter {adapter}: names no base; give it")
    vlm = load_vlm(base or named, revision=revision, dtype=dtype, max_pixels=max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft asks by the old name
            merged = PeftModel.from_pretrained(vlm.model, str(adapter)).merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"adapter {adapter}: does not fit {base or named}: {reason}") from None
    about = {"base": base or named, "adapter": str(adapter.name), "merged": True}
    return save_vlm(out, Vlm(merged, vlm.processor, vlm.path), about)
