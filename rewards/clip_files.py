"""A CLIP by hub name, folder or file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rewards.clip_model import ClipModel
from rewards.devices import device_of, dtype_of
from rewards.exact_weights import check_keys
from rewards.weight_files import read_state_dict, weight_file
from rewards.weight_places import check_place, local_place

Architecture = str | Mapping[str, Any] | None


def load_clip(
    weights: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    architecture: Architecture = None,
    sha256: str | None = None,
    simple_tokenizer: bool = False,
) -> ClipModel:
    """A transformers CLIP, or open_clip's weights as one.

    Texts by the tokenizer beside the weights, else by CLIP's own, which open_clip carries; pixels by the mean and
    deviation of the processor beside them, else by CLIP's own.

    Args:
        weights: hub name or folder of a transformers CLIP; or a state dict of open_clip's CLIP, a file or
            OWNER/NAME/FILE on the hub.
        architecture: of a state dict: open_clip's name of it, or its config.
        sha256: of the file, checked where given.
        simple_tokenizer: texts by open_clip's tokenizer, which also unescapes HTML, whatever stands beside the weights.
    Raises:
        ValueError: nothing to load there.
    """
    precision = dtype_of(dtype)
    where = device_of(device)
    check_place(weights)
    file = weight_file(weights, revision, sha256)
    if file is not None:
        from rewards.open_clip_model import simple_ids
        from rewards.open_clip_weights import architecture_of, converted

        config = architecture_of(architecture)
        try:
            model = converted(read_state_dict(file), config, str(file))
        except ValueError as error:
            raise ValueError(f"weights {weights}: {str(error).removeprefix(f'weights {file}: ')}") from None
        return ClipModel(model, simple_ids(), device=where, dtype=precision)
    if architecture is not None:
        raise ValueError(f"architecture: only a file needs it; weights {weights} names a folder, which says its own")
    model, place = _from_transformers(weights, revision), local_place(weights)
    if simple_tokenizer:
        from rewards.open_clip_model import simple_ids

        tokenizer: Any = simple_ids()
    else:
        tokenizer = tokenizer_of(weights, revision)
        known = int(model.config.text_config.vocab_size)
        if len(tokenizer) > known:
            raise ValueError(
                f"weights {weights}: no tokenizer beside them, and CLIP's own has {len(tokenizer):,} words where the "
                f"model knows {known:,}; put its tokenizer files into {place or 'the repository'}"
            )
    return ClipModel(model, tokenizer, device=where, dtype=precision, **pixel_statistics(weights, revision))


def load_open_clip(
    architecture: Architecture, weights: str | None, *, device: str | None = None, dtype: str = "float32"
) -> ClipModel:
    """open_clip's own model, run by open_clip.

    Args:
        architecture: open_clip's name of it, or local-dir:FOLDER or hf-hub:OWNER/NAME.
        weights: a tag of open_clip, or a file; None with the two others.
    Raises:
        ValueError: it cannot be had.
    """
    from rewards.open_clip_model import create_open_clip, statistics_of

    if not isinstance(architecture, str):
        raise ValueError("architecture: backend open_clip needs a name, such as ViT-H-14 or local-dir:FOLDER")
    precision = dtype_of(dtype)
    towers, ids = create_open_clip(architecture, weights)
    return ClipModel(towers, ids, device=device_of(device), dtype=precision, **statistics_of(towers))


def tokenizer_of(weights: str, revision: str | None = None) -> Any:
    """The tokenizer beside the weights; CLIP's own where there is none."""
    from transformers import CLIPTokenizer

    if _beside(weights, "tokenizer_config.json", revision) is None:
        return clip_tokenizer()
    return CLIPTokenizer.from_pretrained(local_place(weights) or weights, revision=revision)


def pixel_statistics(weights: str, revision: str | None = None) -> dict[str, tuple[float, ...]]:
    """Mean and deviation that the processor beside the weights says, as `ClipModel` takes them; else none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = _beside(weights, name, revision)
        said = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        said = said.get("image_processor", said)
        if "image_mean" in said and "image_std" in said:
            return {"mean": tuple(map(float, said["image_mean"])), "std": tuple(map(float, said["image_std"]))}
    return {}


@cache
def clip_tokenizer() -> Any:
    """CLIP's own tokenizer from the vocabulary that open_clip carries: the same ids up to the end mark; made once."""
    import gzip

    from open_clip.tokenizer import bytes_to_unicode, default_bpe
    from transformers import CLIPTokenizer

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(line.split()) for line in lines)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(line.split()) for line in lines], model_max_length=77)


def _from_transformers(weights: str, revision: str | None) -> Any:
    from safetensors import SafetensorError
    from transformers import CLIPModel
    from transformers.utils import logging

    place, level = local_place(weights), logging.get_verbosity()
    logging.set_verbosity_error()  # what it would say at length of missing weights is said below
    try:
        model, said = CLIPModel.from_pretrained(place or weights, revision=revision, output_loading_info=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # nothing there, other shapes, a broken file
        raise ValueError(
            f"weights {weights}: no CLIP of transformers found there ({str(error).splitlines()[0]}); "
            "give a hub name or a folder"
        ) from None
    finally:
        logging.set_verbosity(level)
    check_keys(said["missing_keys"], said["unexpected_keys"], weights)  # transformers fills or drops them, and goes on
    return model


def _beside(weights: str, name: str, revision: str | None) -> Path | None:
    """A small file beside weights in a folder or on the hub; None where it has none, or the hub cannot be asked."""
    place = local_place(weights)
    if place is not None:
        return place / name if (place / name).is_file() else None
    from transformers.utils import cached_file

    missing = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(weights, name, revision=revision, **missing)
    return None if found is None else Path(found)
