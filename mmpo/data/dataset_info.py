"""LLaMA-Factory's dataset_info.json: the names that a file's columns and roles have. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "dataset_info.json"
COLUMNS = {
    "messages": "conversations",
    "chosen": "chosen",
    "rejected": "rejected",
    "images": "images",
    "system": "system",
}
"""Their name of a column's meaning -> ours."""
ROLES = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
MESSAGES = ("conversations", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class InfoEntry:
    """What the file says of one data set.

    Args:
        columns: {our name: theirs}.
        role, content: keys of a message.
        roles: their names of who speaks -> ours.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    role: str = "from"
    content: str = "value"
    roles: Mapping[str, str] = field(default_factory=dict)

    def messages(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row whose messages have our keys and roles."""
        return {name: self._ours(value) if name in MESSAGES else value for name, value in values.items()}

    def _ours(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._ours(one) for one in value]
        if not isinstance(value, Mapping) or self.role not in value:
            return value
        said = value[self.role]
        return {"role": self.roles.get(said, said), "content": value.get(self.content)}


def info_of(file: str) -> InfoEntry | None:
    """What a dataset_info.json beside a file, or one folder above, says of it; None where it says nothing of use.

    Only preferences in the layout "sharegpt" are of use.

    Raises:
        ValueError: it is no JSON object.
    """
    if not file:
        return None
    data = Path(file)
    for folder in (data.parent, data.parent.parent):
        place = folder / FILE
        if place.is_file() and place != data:
            entry = _entry(place, data.relative_to(folder).as_posix())
            if entry is not None:
                return entry
    return None


def _entry(place: Path, name: str) -> InfoEntry | None:
    try:
        listed = json.loads(place.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{place}: not JSON: {error}") from None
    if not isinstance(listed, dict):
        raise ValueError(f"{place}: {type(listed).__name__}; expected an object with a data set a key")
    named = [one for one in listed.values() if isinstance(one, dict) and one.get("file_name") == name]
    found = [one for one in named if one.get("ranking") and one.get("formatting", "alpaca") == "sharegpt"]
    if not found:
        return None
    columns, tags = _texts(found[0].get("columns")), _texts(found[0].get("tags"))
    return InfoEntry(
        {ours: columns[theirs] for theirs, ours in COLUMNS.items() if columns.get(theirs, ours) != ours},
        tags.get("role_tag", "from"),
        tags.get("content_tag", "value"),
        {tags[theirs]: ours for theirs, ours in ROLES.items() if theirs in tags},
    )


def _texts(value: Any) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}
