"""Which values of a run's recipe are places of this machine, and every way in which a text may write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmpo.data.source_paths import has_suffix
from mmpo.recipe import Recipe, RewardSpec
from mmpo.recipe_files import dump, validate_as
from mmpo.vlm_recipe import VlmRecipe
from pipelines.report_private import Known, is_local, last_part, public
from pipelines.report_run import RunData

BUILT_IN = "shapes/"
SINGLE = (".safetensors", ".ckpt")
ON_THIS_MACHINE = ("folder", "file", "single file", "pipeline")
"""What train.json calls a base that was no name on the hub; what ships with mmpo is a folder too."""
Key = tuple[str | int, ...]
AnyRun = RunData[Any]


def base_is_local(run: AnyRun) -> bool:
    """Whether model.path is a place of this machine: as train.json says, and in a run without that, by its look."""
    path, source = run.recipe.model.path, (run.summary or {}).get("base_source")
    if _built_in(run, path):
        return False
    if source is None:
        return _is_place(run, path)
    return source in ON_THIS_MACHINE or looks_local(path)


def looks_local(path: str) -> bool:
    """Whether a value cannot be a name on the hub: NAME, or OWNER/NAME."""
    return is_local(path) or path.count("/") > 1 or has_suffix(path) or Path(path).suffix in (*SINGLE, ".txt")


def public_recipe(run: AnyRun) -> str:
    """The run's recipe as YAML, without this machine's paths."""
    tree = public(run.recipe.model_dump(mode="json"))
    for key, value in _places(run):
        if key:
            _put(tree, key, last_part(value))
    return dump(validate_as(type(run.recipe), tree, "recipe"))


def known_paths(run: AnyRun) -> Known:
    """The places of a run as texts may write them, relative or absolute, and what stands for each; the longest first.

    The home becomes `~` and the working folder `.`, so that what stands behind them is still seen to be a path.
    """
    found: dict[str, str] = {}
    folders = _working_folders(run)
    for folder in folders:
        found |= dict.fromkeys(_spellings(folder), ".")
    with suppress(RuntimeError):  # there is no home
        found |= dict.fromkeys(_spellings(Path.home()), "~")
    for _, value in _places(run):
        found |= dict.fromkeys([value.rstrip("/\\"), str(Path(value))], last_part(value))
        for folder in folders:
            place = folder / value
            with suppress(RuntimeError):
                place = folder / Path(value).expanduser()
            found |= dict.fromkeys(_spellings(place), last_part(value))
    found |= dict.fromkeys([str(run.folder), *_spellings(run.folder)], run.folder.resolve().name)
    hub = {name for name in (run.recipe.model.path, run.recipe.data.path, _repository(run)) if name}
    hub -= {value for _, value in _places(run)}
    kept = [(path, name) for path, name in found.items() if path not in hub and path != name and len(path) > 1]
    return sorted((pair for pair in kept if "/" in pair[0] or "\\" in pair[0]), key=lambda pair: -len(pair[0]))


def _places(run: AnyRun) -> Iterator[tuple[Key, str]]:
    """(key, value) of the recipe's values that are places of this machine; the key is empty for one of another file."""
    recipe = run.recipe
    if isinstance(recipe, VlmRecipe):
        yield from _vlm_places(run, recipe)
        return
    data, lora, previews = recipe.data, recipe.model.lora, recipe.evaluation.previews
    if base_is_local(run):
        yield ("model", "path"), recipe.model.path
    if data.make is not None or data.rejected is not None or _is_place(run, data.path):
        yield ("data", "path"), data.path
    yield ("output",), recipe.output
    surely: list[tuple[Key, Any]] = [(("data", "rejected"), data.rejected), (("data", "cache"), data.cache)]
    perhaps: list[tuple[Key, Any]] = [(("model", "config"), recipe.model.config), *_options(recipe)]
    if lora is not None:
        perhaps.append((("model", "lora", "start"), lora.start))
    if data.make is not None:
        surely.append((("data", "make", "prompts"), data.make.prompts))
    rollout, validation = recipe.rollout, recipe.evaluation.validation
    if rollout is not None:
        surely += [(("rollout", name), getattr(rollout, name)) for name in ("prompts", "stored", "votes")]
    if validation is not None:
        surely.append((("evaluation", "validation", "prompts"), validation.prompts))
    surely += [(("evaluation", "prompts"), recipe.evaluation.prompts)]
    surely += [(("evaluation", "previews", "prompts"), previews.prompts)]
    prompts = (run.evaluation or {}).get("prompts")  # `mmpo eval` may have been given others
    surely += [((), prompts)] if prompts != recipe.evaluation.prompts else []
    for key, value in surely:
        if isinstance(value, str) and not _built_in(run, value):
            yield key, value
    for key, value in perhaps:
        if isinstance(value, str) and _is_place(run, value):
            yield key, value


def _vlm_places(run: AnyRun, recipe: VlmRecipe) -> Iterator[tuple[Key, str]]:
    yield ("output",), recipe.output
    if base_is_local(run):
        yield ("model", "path"), recipe.model.path
    for name in ("path", "image_root"):
        value = getattr(recipe.data, name)
        if value is not None and _is_place(run, value):
            yield ("data", name), value


def _repository(run: AnyRun) -> str | None:
    """The name on the hub that a recipe wants pushed to."""
    return getattr(run.recipe, "push_to_hub", None)


def _options(recipe: Recipe) -> Iterator[tuple[Key, Any]]:
    """The options of all rewards."""
    validation, rollout = recipe.evaluation.validation, recipe.rollout
    listed: list[tuple[Key, list[RewardSpec]]] = [(("evaluation", "rewards"), recipe.evaluation.rewards)]
    listed += [(("evaluation", "validation", "rewards"), validation.rewards)] if validation is not None else []
    listed += [(("rollout", "rewards"), rollout.rewards)] if rollout is not None else []
    for place, specs in listed:
        for number, reward in enumerate(specs):
            for name, value in reward.options.items():
                yield (*place, number, name), value
    if recipe.data.make is not None:
        for name, value in recipe.data.make.reward.options.items():
            yield ("data", "make", "reward", name), value


def _put(tree: Any, key: Key, value: str) -> None:
    *sections, last = key
    for section in sections:
        tree = tree[section]
    tree[last] = value


def _is_place(run: AnyRun, value: str) -> bool:
    return not _built_in(run, value) and (looks_local(value) or _exists(run, value))


def _built_in(run: AnyRun, value: str) -> bool:
    """Whether a value is of the built-in world: shapes/NAME, and no such place here."""
    return value.startswith(BUILT_IN) and value.count("/") == 1 and not _exists(run, value)


def _exists(run: AnyRun, value: str) -> bool:
    with suppress(OSError, ValueError, RuntimeError):  # too long for a path, or no path at all
        return any((folder / Path(value).expanduser()).exists() for folder in _working_folders(run))
    return False


def _working_folders(run: AnyRun) -> list[Path]:
    """Where we are, and where the run was started: above its relative `output`."""
    folders, folder = [Path.cwd()], run.folder.resolve()
    parts = Path(run.recipe.output).parts
    if not Path(run.recipe.output).is_absolute() and parts and folder.parts[-len(parts) :] == parts:
        folders.append(Path(*folder.parts[: -len(parts)]))
    return folders


def _spellings(place: Path) -> Iterator[str]:
    yield str(place.absolute())
    with suppress(OSError, RuntimeError):
        yield str(place.resolve())
