"""A flag as it is read, and what was gathered from all of them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_TRUTHS = {"true": True, "false": False}


@dataclass
class Gathered:
    """What was read so far: other arguments, overrides, a note for each, and values that wait for other flags."""

    kept: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    set_by: dict[str, str] = field(default_factory=dict)
    held: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def put(self, flag: str, key: str, text: str, note: str | None = None) -> None:
        """One override; which of two flags for one key is meant must not hang on their order."""
        if key in self.set_by:
            raise ValueError(f"{self.set_by[key]} and {flag} both set {key}; give one of them")
        self.set_by[key] = flag
        self.overrides.append(f"{key}={text}")
        self.notes.append(note or f"{flag} is {key} here")

    def hold(self, name: str, flag: str, value: Any) -> None:
        """Keeps a value until all flags are read."""
        if name in self.held:
            raise ValueError(f"{self.held[name][0]} and {flag} mean the same; give one of them")
        self.held[name] = (flag, value)


@dataclass
class Flag:
    """A flag at the head of the arguments: as typed, its plain name, the value after `=`, what follows."""

    typed: str
    name: str
    inline: str | None
    rest: list[str]

    def value(self) -> str:
        """The value after `=`, or the next argument."""
        if self.inline is not None:
            return self.inline
        if not self.has_value():
            raise ValueError(f"{self.typed}: expected a value after it")
        return self.rest.pop(0)

    def has_value(self) -> bool:
        """Whether a value stands behind the flag."""
        return self.inline is not None or bool(self.rest and not self.rest[0].startswith("--"))

    def truth(self) -> bool:
        """What a true or false behind the flag says; true where it stands alone."""
        if self.inline is None and not (self.rest and self.rest[0].lower() in _TRUTHS):
            return True
        value = self.value()
        if value.lower() not in _TRUTHS:
            raise ValueError(f"{self.typed}: expected true or false, got '{value}'")
        return _TRUTHS[value.lower()]

    def values(self) -> list[str]:
        """One value, and those behind it up to the next flag or override."""
        found = [self.value()]
        while self.inline is None and self.has_value() and not is_override(self.rest[0]):
            found.append(self.rest.pop(0))
        return found


def is_override(text: str) -> bool:
    """Whether an argument looks like `section.key=value`."""
    key, equals, _ = text.partition("=")
    return bool(equals) and key.replace(".", "").replace("_", "").isalnum()
