"""What to turn when a run does not fit: switches of the recipe, in the order in which they cost least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from mmpo.loss_feeds import feeds_of
from mmpo.recipe import Recipe
from mmpo.recipe_files import changed


@dataclass(frozen=True, slots=True)
class Switch:
    """A key of the recipe and how to turn it.

    Args:
        key: `section.key`; a switch whose key the recipe lacks is left out.
        turn: (recipe, the key's type) -> the overrides, none where it is turned already.
        cost: what it costs, in words.
    """

    key: str
    turn: Callable[[Recipe, Any], Sequence[str]]
    cost: str


def _on(key: str, fits: Callable[[Recipe], bool] = lambda recipe: True) -> Callable[[Recipe, Any], Sequence[str]]:
    def turn(recipe: Recipe, kind: Any) -> Sequence[str]:
        return [f"{key}={_strongest(kind)}"] if not _value(recipe, key) and fits(recipe) else []

    return turn


def _strongest(kind: Any) -> str:
    """The value that turns a switch on: true, or the choice with the fewest bits."""
    choices = [choice for part in (kind, *get_args(kind)) if get_origin(part) is Literal for choice in get_args(part)]
    texts = [str(choice) for choice in choices if choice not in (None, "none", "off")]
    return min(texts, key=lambda text: "4" not in text) if texts else "true"


def _smaller(recipe: Recipe, kind: Any) -> Sequence[str]:
    size = recipe.train.micro_batch_size or recipe.train.batch_size
    smaller = [n for n in range(1, size) if recipe.train.batch_size % n == 0]
    least = 2 if any("mismatched_z0" in feeds_of(part.entry).values() for part in recipe.method.parts) else 1
    return [f"train.micro_batch_size={n}" for n in smaller if n >= least][:1]


def _half(recipe: Recipe, kind: Any) -> Sequence[str]:
    return ["train.precision=bf16"] if recipe.train.precision in ("fp32", "fp64") else []


def _lora(recipe: Recipe, kind: Any) -> Sequence[str]:
    if recipe.model.lora is not None:
        return []
    return ["model.lora={rank: 16}", *(["method.reference=auto"] if recipe.method.reference != "auto" else [])]


def _resolution(recipe: Recipe, kind: Any) -> Sequence[str]:
    return [f"data.resolution={recipe.data.resolution // 2}"] if recipe.data.resolution else []


def _fewer(key: str, least: int, used: Callable[[Recipe], bool]) -> Callable[[Recipe, Any], Sequence[str]]:
    return lambda recipe, kind: [f"{key}={least}"] if used(recipe) and _value(recipe, key) > least else []


def _makes(recipe: Recipe) -> bool:
    return recipe.data.make is not None


def _samples_to_score(recipe: Recipe) -> bool:
    return bool(recipe.evaluation.rewards) or recipe.evaluation.validation is not None


def _rolls_out(recipe: Recipe) -> bool:
    return recipe.rollout is not None


def _trains_all(recipe: Recipe) -> bool:
    return recipe.model.lora is None


SWITCHES = (
    Switch("train.micro_batch_size", _smaller, "the same result, more forwards of fewer pairs"),
    Switch("train.gradient_checkpointing", _on("train.gradient_checkpointing"), "one more forward of the policy"),
    Switch(
        "evaluation.sampling.batch_size",
        _fewer("evaluation.sampling.batch_size", 1, _samples_to_score),
        "the same images, one at a time",
    ),
    Switch("data.make.sampling.batch_size", _fewer("data.make.sampling.batch_size", 1, _makes), "the same images"),
    Switch(
        "rollout.sampling.batch_size",
        _fewer("rollout.sampling.batch_size", 1, _rolls_out),
        "the same samples, one prompt at a time",
    ),
    Switch("evaluation.previews.count", _fewer("evaluation.previews.count", 0, lambda recipe: True), "no previews"),
    Switch("train.precision", _half, "half precision in the forward; losses stay float32"),
    Switch(
        "method.offload_reference", _on("method.offload_reference", _trains_all), "copies of weights at every forward"
    ),
    Switch("optim.eight_bit", _on("optim.eight_bit"), "an optimiser state of 8 bits"),
    Switch("train.one_candidate_at_a_time", _on("train.one_candidate_at_a_time"), "one more forward of the policy"),
    Switch(
        "model.quantize",
        _on("model.quantize", lambda recipe: recipe.model.lora is not None),
        "a frozen base of fewer bits, policy and reference alike",
    ),
    Switch("model.lora", _lora, "a LoRA in place of every weight: another method"),
    Switch("data.resolution", _resolution, "half the pixels a side: other data"),
)


def available(recipe: Recipe) -> Iterator[tuple[Switch, Sequence[str]]]:
    """The switches that this recipe's class has and that can still be turned, with their overrides."""
    for switch in SWITCHES:
        kind = _kind(switch.key)
        overrides = switch.turn(recipe, kind) if kind is not None else ()
        if overrides:
            yield switch, overrides


def smallest_set(recipe: Recipe, needed: Callable[[Recipe], float], memory: float) -> tuple[list[str], Recipe] | None:
    """(overrides, the recipe with them) that fit, or None where nothing does.

    Switches are turned in their order until it fits; then each is left out again where it fits without.

    Args:
        needed: bytes of a recipe.
        memory: bytes of the device.
    """
    chosen: list[Sequence[str]] = []
    for _, overrides in available(recipe):
        if needed(_with(recipe, chosen)) <= memory:
            break
        try:
            _with(recipe, [*chosen, overrides])
        except ValueError:
            continue  # the recipe allows it alone, not beside the others
        chosen.append(overrides)
    if needed(_with(recipe, chosen)) > memory:
        return None
    for overrides in list(chosen):
        fewer = [other for other in chosen if other is not overrides]
        try:
            if needed(_with(recipe, fewer)) <= memory:
                chosen = fewer
        except ValueError:
            continue
    return [text for overrides in chosen for text in overrides], _with(recipe, chosen)


def _with(recipe: Recipe, chosen: Sequence[Sequence[str]]) -> Recipe:
    return changed(recipe, [text for overrides in chosen for text in overrides])


def _kind(key: str) -> Any:
    """The annotation of a key of the recipe's class, or None where it has none of that name."""
    kind: Any = Recipe
    for name in key.split("."):
        models = [part for part in (kind, *get_args(kind)) if hasattr(part, "model_fields")]
        if not models or name not in models[0].model_fields:
            return None
        kind = models[0].model_fields[name].annotation
    return kind


def _value(recipe: Recipe, key: str) -> Any:
    found: Any = recipe
    for name in key.split("."):
        found = getattr(found, name)
    return found
