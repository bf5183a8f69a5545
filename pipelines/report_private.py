"""Taking paths of this machine out of what is published: a path becomes its last part."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from mmpo.recipe import Recipe
from mmpo.recipe_files import dump, validate

_WINDOWS = re.compile(r"([A-Za-z]:[\\/]|\\\\)")
_INSIDE = re.compile(r"(?<![\w./:~-])~?(?:/[\w.@+ -]*[\w.@+-]){2,}|(?<!\w)[A-Za-z]:\\[^\s'\"]+")


def public(value: Any, key: str = "") -> Any:
    """A tree of JSON values in which no string is, or holds, an absolute path. Lists of prompts stay as they are."""
    if isinstance(value, Mapping):
        return {name: public(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if key == "prompts" else [public(item) for item in value]
    return public_text(value) if isinstance(value, str) else value


def public_text(text: str) -> str:
    """A text in which every path of this machine is reduced to its last part."""
    if "\n" not in text and is_local(text):
        return last_part(text)
    return _INSIDE.sub(lambda match: last_part(match.group()), text)


def is_local(text: str) -> bool:
    """Whether a text as a whole is a path that only this machine knows: absolute, of a home, or out of the folder."""
    if text.startswith(("/", "~", "./", "../", "file:")) or _WINDOWS.match(text):
        return True
    return ".." in PurePosixPath(text).parts


def last_part(path: str) -> str:
    """File or folder name at the end of a path, of either kind of system."""
    windows = _WINDOWS.match(path) or "\\" in path
    name = (PureWindowsPath(path) if windows else PurePosixPath(path)).name
    return name if name not in ("", "..") else "local"


def public_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, without this machine's paths."""
    return dump(validate(public(recipe.model_dump(mode="json"))))


def public_config(data: bytes) -> bytes:
    """A component's JSON config, in which diffusers and transformers note the path they loaded it from."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: public_text(item) if name.endswith("name_or_path") and isinstance(item, str) else clean(item)
                for name, item in value.items()
            }
        return [clean(item) for item in value] if isinstance(value, list) else value

    return (json.dumps(clean(json.loads(data)), indent=2, ensure_ascii=False) + "\n").encode()


def public_safetensors(data: bytes) -> bytes:
    """A safetensors file whose header's metadata holds no path; the tensors are not touched."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    header["__metadata__"] = {name: _public_entry(value) for name, value in metadata.items()}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _public_entry(value: str) -> str:
    try:
        tree = json.loads(value)
    except ValueError:
        return public_text(value)
    return json.dumps(public(tree), sort_keys=True) if isinstance(tree, dict | list) else public_text(value)
