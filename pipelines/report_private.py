"""Taking paths of this machine out of what is published: a path becomes its last part."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

Known = Sequence[tuple[str, str]]
"""Texts that must not be seen and what stands in their place, the longest first; see `report_places`."""

_WHOLE = re.compile(r"/|~[\w.-]*(/|$)|\.{1,2}/|file:|[A-Za-z]:[\\/]|\\\\")
_WINDOWS = re.compile(r"([A-Za-z]:[\\/]|\\\\)")
_FILE = (
    r"\.(?:txt|jsonl?|ndjson|ya?ml|[ct]sv|parquet|arrow|safetensors|ckpt|pth?|bin|png|jpe?g|webp|gif|bmp|md|html|log"
    r"|npy|npz|py|zip|tar|gz)(?=[\s,;:.)\]]|$)"
)
_START = (
    r"(?:file:/+|(?<![\w.~/\\-])(?:~[\w.-]*|\.{1,2})?/{1,2}(?<!://)(?=[^\s/])|(?<!\w)[A-Za-z]:[\\/]|(?<!\\)\\\\(?=\w))"
)
_END = rf"[;:]\s|\s(?:~[\w.-]*|\.{{1,2}})?/|\s[A-Za-z]:[\\/]|\s\w+://|{_FILE}"
_LETTER = rf"(?:(?!{_END})[^/\\\n\"'`<>|]|(?<=\w)'(?=\w))"
_QUOTED = re.compile(rf"(?P<mark>['\"`])(?P<path>{_START}[^\n]*?)(?P=mark)(?!\w)")
_INSIDE = re.compile(rf"{_START}(?:{_LETTER}+[/\\]+)+")
"""From where a path begins to its last separator. It may hold spaces, so that too much is taken rather than too little:
it ends where a sentence's clause, a file name with a known ending or another path does."""


def public(value: Any, known: Known = (), key: str = "") -> Any:
    """A tree of JSON values in which no string is, or holds, a path of this machine. Lists of prompts stay as they are.

    Args:
        known: what is known to be such paths, beside what looks like one.
    """
    if isinstance(value, Mapping):
        return {name: public(item, known, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if key == "prompts" else [public(item, known) for item in value]
    return public_text(value, known) if isinstance(value, str) else value


def public_text(text: str, known: Known = ()) -> str:
    """A text in which every path of this machine is reduced to its last part; known ones first, as they are written."""
    for path, name in known:
        if path in text:
            text = _without(text, path, name)
    if "\n" not in text and is_local(text):
        return last_part(text)
    text = _QUOTED.sub(lambda found: found["mark"] + last_part(found["path"]) + found["mark"], text)
    return _INSIDE.sub(_shortened, text)


def _without(text: str, path: str, name: str) -> str:
    """A text with a known path's name in its place; with something behind it, as a path that is still to be cut."""
    inside = name if name in (".", "~") else f"./{name}"
    text = re.sub(rf"(?<!\w){re.escape(path)}(?=[/\\])", lambda _: inside, text)
    return re.sub(rf"(?<!\w){re.escape(path)}(?![\w-])", lambda _: name, text)


def _shortened(found: re.Match[str]) -> str:
    """Nothing before the path's last part; that part itself where it ended with a separator."""
    behind = found.string[found.end() : found.end() + 1]
    return "" if re.match(r"[^\s,;:.)\]'\"`]", behind) else last_part(found.group())


def public_name(text: str, known: Known = ()) -> str:
    """What a config says it was loaded from: a name on the hub as it is, of a place in a known one the last part."""
    shown = public_text(text, known)
    return last_part(text) if shown != text or shown.count("/") > 1 else shown


def is_local(text: str) -> bool:
    """Whether a text as a whole is a path that only this machine knows: absolute, of a home, or out of the folder."""
    return bool(_WHOLE.match(text)) or ".." in PurePosixPath(text).parts


def last_part(path: str) -> str:
    """File or folder name at the end of a path, of either kind of system."""
    windows = _WINDOWS.match(path) or "\\" in path
    name = (PureWindowsPath(path) if windows else PurePosixPath(path)).name
    return name if name not in ("", "..") and not (name.startswith("~") and "/" not in path) else "local"


def public_config(data: bytes, known: Known = ()) -> bytes:
    """A component's JSON config, in which diffusers and transformers note the path they loaded it from."""

    def clean(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: clean(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        if not isinstance(value, str):
            return value
        if key.endswith(("name_or_path", "_file")):
            return public_name(value, known)
        return public_text(value, known) if any(path in value for path, _ in known) else value

    return (json.dumps(clean(json.loads(data)), indent=2, ensure_ascii=False) + "\n").encode()


def public_safetensors(data: bytes, known: Known = ()) -> bytes:
    """A safetensors file whose header's metadata holds no path; the tensors are not touched."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    header["__metadata__"] = {name: _public_entry(value, known) for name, value in metadata.items()}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _public_entry(value: str, known: Known) -> str:
    try:
        tree = json.loads(value)
    except ValueError:
        return public_text(value, known)
    return (
        json.dumps(public(tree, known), sort_keys=True) if isinstance(tree, dict | list) else public_text(value, known)
    )
