"""A CLIP by hub name, folder or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewards.clip_model import ClipModel
from rewards.devices import device_of, dtype_of


def load_clip(
    weights: str, *, revision: str | None = None, device: str | None = None, dtype: str = "float32"
) -> ClipModel:
    """A transformers CLIP; texts by the tokenizer in its folder, else by CLIP's own, which open_clip carries.

    Args:
        weights: hub name or folder.
    Raises:
        ValueError: nothing to load there.
    """
    from transformers import CLIPModel

    precision = dtype_of(dtype)
    try:
        model = CLIPModel.from_pretrained(weights, revision=revision)
    except OSError as error:
        raise ValueError(
            f"weights {weights}: no CLIP of transformers found there ({str(error).splitlines()[0]}); "
            "give a hub name or a folder"
        ) from None
    return ClipModel(model, tokenizer_of(weights, revision), device=device_of(device), dtype=precision)


def tokenizer_of(weights: str, revision: str | None = None) -> Any:
    """The tokenizer beside the weights; CLIP's own where a local folder has none."""
    from transformers import CLIPTokenizer

    folder = Path(weights)
    if folder.is_dir() and (folder / "tokenizer_config.json").is_file():
        return CLIPTokenizer.from_pretrained(folder)
    return clip_tokenizer()


def clip_tokenizer() -> Any:
    """CLIP's own tokenizer from the vocabulary that open_clip carries: the same ids up to the end mark."""
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
