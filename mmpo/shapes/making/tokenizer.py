"""Builds the CLIP tokenizer files of the grammar. The result is shipped and frozen; nothing rebuilds it at run time."""

from __future__ import annotations

import json
from pathlib import Path

from mmpo.shapes.grammar import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 16  # positions: the longest caption has 13 words, and one position stays after its end mark
_STOP = "</w>"


def _byte_alphabet() -> list[str]:
    """CLIP's printable stand-ins for the 256 bytes, in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(rest))]


def _joined(parts: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding: the earliest merge first, leftmost first."""
    parts = list(parts)
    for left, right in merges:
        place = 0
        while place < len(parts) - 1:
            if (parts[place], parts[place + 1]) == (left, right):
                parts[place : place + 2] = [left + right]
            else:
                place += 1
    return parts


def merges_of(words: list[list[str]]) -> list[tuple[str, str]]:
    """Merges that make every word, given as its letters, one token.

    Each word adds the merges that join what the earlier merges leave of it, left to right. A later merge never
    disturbs an earlier word, whose own merges all rank before it.
    """
    found: list[tuple[str, str]] = []
    for word in words:
        parts = _joined(word, found)
        while len(parts) > 1:
            found.append((parts[0], parts[1]))
            parts = _joined(word, found)
    return found


def merges() -> list[tuple[str, str]]:
    """Merges of the grammar's words, in sorted order."""
    return merges_of([[*word[:-1], word[-1] + _STOP] for word in WORDS])


def write(folder: Path) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json into `folder`; equal bytes on every call."""
    pairs = merges()
    alphabet = _byte_alphabet()
    tokens = [*alphabet, *(letter + _STOP for letter in alphabet), *(left + right for left, right in pairs)]
    tokens = list(dict.fromkeys([*tokens, START, END]))
    config = {
        "add_prefix_space": False,
        "bos_token": START,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": True,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": LENGTH,
        "pad_token": END,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    }
    files = {
        "vocab.json": json.dumps({token: index for index, token in enumerate(tokens)}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(f"{left} {right}" for left, right in pairs)]),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
