"""`mmpo init`: a shipped recipe as a commented file of one's own, filled in for one's checkpoint, pairs and GPU."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpo.files import write_bytes
from mmpo.recipe import Recipe
from mmpo.recipe_comments import EDIT, commented
from mmpo.recipe_files import COMMANDS, parse_yaml, shipped_recipes, validate
from mmpo.suggest import one_of
from mmpo.vlm_recipe import VlmRecipe
from pipelines.presets import ESTIMATE, PRESETS, Preset, apply_preset, preset_for

DEFAULT = "diffusion_dpo"
WHOSE = {Recipe: " for image models", VlmRecipe: " for vision-language models"}
"""What two kinds of recipes of one command are told apart by."""


def init(
    name: str | None,
    output: str | Path | None,
    *,
    memory: int | None = None,
    model: str | None = None,
    data: str | None = None,
    force: bool = False,
) -> list[str]:
    """Writes a commented recipe and returns what to say: what was written, and what to do next.

    Args:
        name: of a shipped recipe; None is the general one.
        output: file, or folder for NAME.yaml, which is made where the text ends in a slash; None: the current folder.
        memory: of the GPU in GB, for a preset.
        model: fills in model.path.
        data: fills in data.path; its format is then detected. A recipe that trains on its own samples takes none.
        force: overwrite a file that is there.
    Raises:
        ValueError: no such recipe, no preset for it, or the file cannot be written.
    """
    name = name or DEFAULT
    shipped = shipped_recipes()
    others = {other: kind for kind in COMMANDS if kind is not Recipe for other in shipped_recipes(kind)}
    if name in others:
        if memory is not None or model is not None or data is not None:
            raise ValueError(
                f"recipe {name}: is one of `{COMMANDS[others[name]]}`; --memory, --model and --data are for those of "
                "`mmpo train`. Leave them out, and edit the file"
            )
        return _as_it_is(name, others[name], output, force)
    if name not in shipped:
        raise ValueError(f"recipe: {one_of(name, {**shipped, **others})}; `mmpo init --list` describes them")
    text = shipped[name].read_text(encoding="utf-8")
    tree = parse_yaml(text, name)
    if _samples_itself(tree) and (data is not None or memory is not None):
        raise ValueError(
            f"recipe {name}: trains on its own samples, so --data and the presets of --memory are not for it; its "
            "prompts are rollout.prompts, and names that end in _16gb are for small cards (`mmpo init --list`)"
        )
    tree = _filled_in(tree, model, data)
    preset = preset_for(memory) if memory is not None else None
    if preset is not None:
        tree = apply_preset(preset, name, tree)
    validate(tree, name)
    file = _target(name, output, force)
    edit = _to_edit(tree, model, data)
    words = list(_header(name, text, tree, file, preset, edit))
    _write(file, commented(tree, words, edit))
    return list(_report(name, file, tree, preset, memory, edit))


def _as_it_is(name: str, kind: Any, output: str | Path | None, force: bool) -> list[str]:
    """A shipped recipe of another command, its comments kept."""
    file = _target(name, output, force)
    _write(file, shipped_recipes(kind)[name].read_text(encoding="utf-8"))
    return [f"written: {file}", f"next: {COMMANDS[kind]} {shlex.quote(str(file))} --dry-run"]


def list_lines() -> Iterator[str]:
    """The shipped recipes by command, and the presets, a line each."""
    for kind, command in COMMANDS.items():
        yield f"recipes of {command}{WHOSE.get(kind, '')}"
        for name, path in shipped_recipes(kind).items():
            mark = " (the default)" if name == DEFAULT else ""
            yield f"  {name:<28} {_comment(path.read_text(encoding='utf-8'))[0]}{mark}"
        yield ""
    yield f"presets by GPU memory, for recipes of the size of Stable Diffusion 1.5 at 512 pixels ({ESTIMATE})"
    for preset in PRESETS:
        yield f"  --memory {preset.memory:<3} {preset.words.removesuffix(f' ({ESTIMATE})')}"
    yield "recipes of the built-in world (shapes_...) need no preset"
    yield ""
    yield "next: mmpo init NAME --model CHECKPOINT --data PAIRS"


def _filled_in(tree: dict[str, Any], model: str | None, data: str | None) -> dict[str, Any]:
    if model is not None:
        tree["model"]["path"] = model
    if data is not None:
        tree["data"]["path"] = data
        if "format" in tree["data"]:  # the recipe's own data had it; the user's may have another
            tree["data"]["format"] = "auto"
    return tree


def _to_edit(tree: dict[str, Any], model: str | None, data: str | None) -> list[str]:
    """The keys that only the user knows; a recipe of the built-in world runs as it is."""
    keys = []
    if model is None and not tree["model"]["path"].startswith("shapes/"):
        keys.append("model.path")
    if data is None and _has_own_data(tree):
        keys.append("data.path")
    if _samples_itself(tree) and not tree["rollout"]["prompts"].startswith("shapes/"):
        keys.append("rollout.prompts")
    return keys


def _samples_itself(tree: dict[str, Any]) -> bool:
    return tree.get("rollout") is not None


def _has_own_data(tree: dict[str, Any]) -> bool:
    """Whether the data are the user's: a recipe of the built-in world makes them, another one, or a rollout does."""
    return (
        not _samples_itself(tree)
        and tree["data"].get("make") is None
        and not tree["model"]["path"].startswith("shapes/")
    )


def _target(name: str, output: str | Path | None, force: bool) -> Path:
    file = Path(output or f"{name}.yaml")
    if file.is_dir() or str(output).endswith(("/", os.sep)):
        file = file / f"{name}.yaml"
    if file.exists() and not force:
        raise ValueError(f"init: {file} is there; --force overwrites it, --output FILE writes another")
    return file


def _write(file: Path, text: str) -> None:
    try:
        write_bytes(file, text.encode())
    except OSError as error:
        raise ValueError(
            f"init: cannot write {file}: {error.strerror}; choose another place with --output FILE"
        ) from None


def _header(
    name: str, text: str, tree: dict[str, Any], file: Path, preset: Preset | None, edit: list[str]
) -> Iterator[str]:
    """What stands above the recipe: what it does, the paper, how to read the file and what to do with it."""
    yield from _comment(text)
    yield f"Written by `mmpo init {name}`."
    if preset is not None:
        yield ""
        yield f"Preset for {preset.memory} GB: {preset.words}."
        yield "It is made for the size of Stable Diffusion 1.5 at 512 pixels; larger checkpoints need more."
    yield ""
    yield "A line `key: value` is set. A line `# key: value` is at its default: take the `# ` away to change it (and"
    yield "that of the section above it, where that is a comment too). Lines with ## are to be read."
    if edit:
        yield f"Edit {' and '.join(edit)}, marked `{EDIT}`."
    yield ""
    for command, words in _commands(file, tree):
        yield f"  {command:<44} {words}"


def _comment(text: str) -> list[str]:
    """The lines of a shipped recipe's comment at its top."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def _commands(file: Path, tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    quoted = shlex.quote(str(file))
    if _has_own_data(tree):
        yield f"mmpo data inspect {shlex.quote(tree['data']['path'])}", "look at the pairs"
    yield f"mmpo train {quoted} --dry-run", "check it, and see what it would do"
    yield f"mmpo train {quoted}", "run it"
    section = tree.get("evaluation") or {}
    run = shlex.quote(tree["output"])
    if section.get("prompts") and section.get("rewards"):
        yield f"mmpo eval {run}", "compare with the base"
    else:
        yield f"mmpo report {run}", "see what it did; evaluation.prompts and rewards make mmpo eval possible"


def _report(
    name: str, file: Path, tree: dict[str, Any], preset: Preset | None, memory: int | None, edit: list[str]
) -> Iterator[str]:
    yield f"written: {file} (from {name})"
    if preset is not None:
        other = f"; there is none for {memory} GB" if memory != preset.memory else ""
        yield f"preset for {preset.memory} GB{other}: {preset.words}"
    yield "next:"
    if edit:
        yield f"  edit {' and '.join(edit)} in {file}"
    for command, _ in list(_commands(file, tree))[:-1]:
        yield f"  {command}"
