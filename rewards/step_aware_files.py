"""Step-aware weights: a folder of ours, SPO's published state dict, or a plain CLIP to start from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from mmpo.files import naming
from rewards.clip_files import load_clip, pixel_statistics, tokenizer_of
from rewards.clip_model import ClipModel
from rewards.devices import device_of, dtype_of
from rewards.step_aware_model import StepAwareClip
from rewards.weight_files import read_state_dict, weight_file
from rewards.weight_places import local_place

FILE = "step_aware.safetensors"  # not a CLIP's name, so that nobody takes half of it for one
NAMES = (
    (r"clip\.", ""),
    (r"time\.0\.", "t_embedder.mlp.0."),
    (r"time\.1\.", "t_embedder.mlp.2."),
    (r"layers\.(\d+)\.", r"vision_model.encoder.layers.\1.adaLN_modulation.1."),
    (r"last\.", "vision_model.adaLN_modulation.1."),
)
"""Beginnings of our parameters' names, and of SPO's, which stand in our files too."""


def load_step_aware(
    weights: str,
    *,
    revision: str | None = None,
    config: str = "yuvalkirstain/PickScore_v1",
    sha256: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
) -> ClipModel:
    """A step-aware CLIP; a plain CLIP, such as PickScore, is told the timestep and scores as before.

    Args:
        weights: folder that `save_step_aware` wrote; SPO's state dict, a local file or OWNER/NAME/FILE on the hub; or
            hub name or folder of a transformers CLIP.
        revision: on the hub.
        config: hub name or folder of the CLIP whose config, tokenizer and processor a state dict has.
        sha256: of a state dict's file.
        device, dtype: of the model.
    Returns:
        A `ClipModel` of a `StepAwareClip`: its images take `timesteps` [N].
    Raises:
        ValueError: nothing to load there, or parameters are missing, unknown or of other shapes.
    """
    file, beside, at = weight_file(weights, revision, sha256), weights, revision
    place = local_place(weights)
    if file is not None:
        beside, at = config, None
    elif place is not None and (place / FILE).is_file():
        file, beside = place / FILE, str(place)
    if file is None:
        try:
            plain = load_clip(weights, revision=revision, device=device, dtype=dtype)
        except ValueError as error:
            raise ValueError(f"{error}; nor is there {FILE}") from None
        tokenizer, statistics = plain.tokenizer, {"mean": plain.mean, "std": plain.std}
        model = StepAwareClip(plain.model)
    else:
        model = _filled(_config(beside), read_state_dict(file), weights)
        tokenizer, statistics = tokenizer_of(beside, at), pixel_statistics(beside, at)
    return ClipModel(model, tokenizer, device=device_of(device), dtype=dtype_of(dtype), **statistics)


def save_step_aware(model: StepAwareClip, folder: Path) -> None:
    """Writes the CLIP's config.json, and all weights in one safetensors file, under SPO's names."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    state = {published_name(name): value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    partial = folder / f".{FILE}.partial"
    with naming(partial, folder / FILE):
        save_file(state, partial, metadata={"format": "pt"})
        os.replace(partial, folder / FILE)


def published_name(name: str) -> str:
    """A parameter's name in SPO's files, of `StepAwareClip`'s."""
    for ours, theirs in NAMES:
        if re.match(ours, name):
            return re.sub(f"^{ours}", theirs, name)
    raise AssertionError(name)


def _config(place: str) -> Any:
    from transformers import CLIPConfig

    try:
        if Path(place).is_dir() and not (Path(place) / "config.json").is_file():  # transformers would take its defaults
            raise FileNotFoundError("no such file")
        return CLIPConfig.from_pretrained(place)
    except OSError as error:
        raise ValueError(f"config {place}: no config.json of a CLIP there ({_first_line(error)})") from None


def _filled(config: Any, state: dict[str, Tensor], where: str) -> StepAwareClip:
    """The model of this config with these weights, all of them and no other."""
    from transformers import CLIPModel

    if all(name.startswith("model.") for name in state):  # SPO's training saves a wrapper's
        state = {name.removeprefix("model."): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.endswith(".position_ids")}  # of old transformers
    model = StepAwareClip(CLIPModel(config))
    names = {published_name(name): name for name in model.state_dict()}
    missing, unknown = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    if missing or unknown:
        raise ValueError(
            f"weights {where}: not the step-aware weights of this config: {len(missing)} parameters missing "
            f"({', '.join(missing[:3])}), {len(unknown)} unknown ({', '.join(unknown[:3])})"
        )
    try:
        model.load_state_dict({names[name]: value for name, value in state.items()})
    except RuntimeError as error:
        raise ValueError(f"weights {where}: {str(error).splitlines()[-1].strip()}; give their CLIP's config") from None
    return model


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
