"""How much of a caption a checkpoint's text encoders read. Imports no torch at its top."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNLIMITED = 100_000  # transformers says so with a huge number
FOLDERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


@dataclass(frozen=True)
class Cut:
    """What one tokenizer makes of a caption.

    Args:
        name: the tokenizer's folder.
        count: tokens of the caption, without the start and end marks.
        limit: so many are read, or None for all.
        end: characters of the caption that are read.
    """

    name: str
    count: int
    limit: int | None
    end: int

    @property
    def lost(self) -> int:
        """Tokens that are not read."""
        return max(0, self.count - self.limit) if self.limit is not None else 0


def load_tokenizers(checkpoint: str, revision: str | None = None) -> dict[str, Any]:
    """The tokenizers of a checkpoint (or of a folder that is one), by folder name.

    Raises:
        ValueError: there is none, or it cannot be had.
    """
    from transformers import AutoTokenizer

    from mmpo.models.checkpoint import resolve
    from mmpo.models.single_file import config_name

    where = resolve(checkpoint)
    if Path(where).is_file():
        where = resolve(config_name(Path(where), None))
    folder = Path(where)
    if (folder / "tokenizer_config.json").is_file():
        names: Sequence[str] = ("",)
    elif folder.is_dir():
        names = [name for name in FOLDERS if (folder / name).is_dir()]
    else:
        names = _hub_folders(where, revision)
    if not names:
        raise ValueError(f"--model {checkpoint}: no tokenizer in it; expected a folder {' or '.join(FOLDERS)}")
    found = {}
    for name in names:
        try:
            found[name or "tokenizer"] = AutoTokenizer.from_pretrained(where, subfolder=name, revision=revision)
        except (OSError, ValueError, KeyError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"--model {checkpoint}: its tokenizer cannot be had ({first}); give a folder, or leave --model out"
            ) from None
    return found


def _hub_folders(checkpoint: str, revision: str | None) -> list[str]:
    """A checkpoint on the hub names its tokenizers in model_index.json; what is no pipeline has one at its top."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        index = json.loads(Path(hf_hub_download(checkpoint, "model_index.json", revision=revision)).read_text())
    except LocalEntryNotFoundError:
        raise ValueError(
            f"--model {checkpoint}: no such folder, and the hub cannot be reached; give a folder, or leave --model out"
        ) from None
    except EntryNotFoundError:
        return [""]
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(f"--model {checkpoint}: no such folder or hub name ({type(error).__name__})") from None
    return [name for name in FOLDERS if index.get(name, [None])[0]]


def cuts(text: str, tokenizers: dict[str, Any]) -> list[Cut]:
    """What each tokenizer reads of a caption."""
    found = []
    for name, tokenizer in tokenizers.items():
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, truncation=False, verbose=False
        )
        count = len(encoded["input_ids"])
        most = tokenizer.model_max_length
        limit = most - tokenizer.num_special_tokens_to_add() if most < UNLIMITED else None
        end = len(text)
        if limit is not None and count > limit:
            end = encoded["offset_mapping"][limit - 1][1] if tokenizer.is_fast else _end(text, tokenizer, limit)
        found.append(Cut(name, count, limit, end))
    return found


def _end(text: str, tokenizer: Any, limit: int) -> int:
    """Characters in the first `limit` tokens, for tokenizers that do not say: the longest start that fits."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(tokenizer(text[:middle], add_special_tokens=False, verbose=False)["input_ids"]) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def resolution_of(checkpoint: str, revision: str | None) -> int | None:
    """Pixels per side that a checkpoint was trained at, or None where it does not say."""
    from mmpo.models.checkpoint import read_config

    try:
        return read_config(checkpoint, revision).resolution
    except ValueError:
        return None
