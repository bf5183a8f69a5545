"""Prompts by name: the built-in world's, or a text file with one a line."""

from __future__ import annotations

from pathlib import Path

from mmpo.data.format_values import LONGEST_PROMPT
from mmpo.records import SPLITS, Prompt

BUILT_IN = "shapes/"


def load_prompts(name: str, limit: int | None = None) -> list[Prompt]:
    """The prompts that a recipe names, in a fixed order.

    Args:
        name: shapes/train, shapes/tune, shapes/test, or a UTF-8 text file with a prompt a line.
        limit: the first so many.
    Raises:
        ValueError: no such split or file, nothing in it, or what is no prompt.
    """
    if name.startswith(BUILT_IN) and not Path(name).exists():
        split = name.removeprefix(BUILT_IN)
        if split not in SPLITS:
            raise ValueError(f"prompts: no split '{split}' in the built-in world; valid: {', '.join(SPLITS)}")
        from mmpo.shapes.prompts import prompts

        return prompts(split, limit=limit)
    file = Path(name)
    if not file.is_file():
        raise ValueError(f"prompts: no file '{name}'; give a text file with a prompt a line, or shapes/train|tune|test")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts: {name} is not UTF-8 (position {error.start}); save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ValueError(f"prompts: {name}, line {number} holds a NUL character; is it a text? save it as UTF-8")
        if len(line) > LONGEST_PROMPT:
            raise ValueError(
                f"prompts: {name}, line {number} has {len(line):,} characters, the limit is {LONGEST_PROMPT:,}; "
                "write one prompt a line"
            )
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not texts:
        raise ValueError(f"prompts: {name} holds no prompt; write one a line")
    return [Prompt(text) for text in texts[:limit]]
