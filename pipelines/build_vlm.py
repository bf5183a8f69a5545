"""Wires the recipe of a vision-language model into a run of the one loop; `pipelines.build` does it for images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from mmpo import beta as beta_units
from mmpo.adapters import AdaptersOff, FrozenCopy
from mmpo.adapters.autoregressive import Autoregressive
from mmpo.adapters.trick_check import check_tricks
from mmpo.contracts import Reference
from mmpo.data.answer_groups import AnswerRows
from mmpo.data.answer_tokens import AnswerEncoder
from mmpo.losses import LOSSES
from mmpo.losses.visual import VISUAL_LOSSES
from mmpo.models.loading import weights_hash
from mmpo.models.quiet import quiet_transformers
from mmpo.models.vlm import Vlm, load_vlm
from mmpo.models.vlm_lora import add_vlm_lora
from mmpo.models.vlm_parts import Part, check_trained, train_only, vlm_parts
from mmpo.training.answer_step import AnswerStep
from mmpo.training.answer_terms import AnswerTerm
from mmpo.training.run import Run
from mmpo.training.sharding import Spread
from mmpo.vlm_methods import split_side
from mmpo.vlm_recipe import VlmMethod, VlmRecipe
from pipelines.build import DTYPES
from pipelines.vlm_cache import reference_store
from pipelines.vlm_feed import open_rows, vlm_feed

Say = Callable[[str], None]
_ONE_SIDED = ("anchor", "sft")


def build_vlm_run(recipe: VlmRecipe, accelerator: Accelerator, folder: Path, say: Say) -> tuple[Run, Vlm]:
    """(the parts of a run, the model with its processor). The rows are read and checked on the way.

    Raises:
        ValueError: anything a user can mend, with where and how.
    """
    rows = open_rows(recipe)
    vlm = load_base_vlm(recipe, accelerator)
    encoder = encoder_of(recipe, vlm)
    feed = vlm_feed(recipe, encoder, say, rows)
    base = weights_hash(vlm.model)
    prepare_policy(recipe, vlm.model, say)
    adapter = tried_adapter(vlm.model, feed.train, feed.sample, say)
    terms, scale = build_answer_terms(recipe.method)
    unused: Any = None  # by a run whose passes are `answers`
    train: Any = feed.train
    held_out: Any = feed.held_out
    run = Run(
        accelerator=accelerator,
        policy=vlm.model,
        bind=unused,
        adapter=unused,
        reference=build_vlm_reference(recipe, vlm.model),
        terms=(),
        scale=scale,
        train=train,
        held_out=held_out,
        clusters=feed.clusters,
        dtype=torch.float64 if recipe.train.precision == "fp64" else torch.float32,
        recipe=recipe,
        folder=folder,
        identity={"base weights": base, **feed.identity},
        reference_cache=reference_store(recipe, vlm.model, base, asdict(adapter), encoder, accelerator, say)
        if recipe.method.cache_reference
        else None,
        answers=AnswerStep(adapter, terms, feed.train, feed.held_out),
        spread=_spread(recipe, vlm.model),
    )
    return run, vlm


def _spread(recipe: VlmRecipe, model: Any) -> Spread:
    """The decoder's layers one by one; images are encoded outside of the forward, by what stays whole.

    Raises:
        ValueError: fsdp2, and something that stays whole is trained.
    """
    parts = vlm_parts(model)
    whole = [n for n, p in model.named_parameters() if p.requires_grad and parts.part_of(n) in ("vision", "projector")]
    if recipe.train.distribution == "fsdp2" and whole:
        raise ValueError(
            f"model.lora.targets: {whole[0]} is trained, and fsdp2 leaves it whole; train the language model"
        )
    return Spread(inside=parts.language, whole=(*parts.vision, *parts.projector))


def load_base_vlm(recipe: VlmRecipe, accelerator: Accelerator) -> Vlm:
    """The recipe's checkpoint on this process's device, in the weights' dtype: half precision under a LoRA only."""
    model, precision = recipe.model, recipe.train.precision
    half = model.lora is not None or precision == "fp64"
    with quiet_transformers():
        return load_vlm(
            model.path,
            revision=model.revision,
            dtype=DTYPES[precision] if half else torch.float32,
            quantize=model.quantize,
            device=accelerator.device,
            max_pixels=model.max_pixels,
        )


def encoder_of(recipe: VlmRecipe, vlm: Vlm) -> AnswerEncoder:
    """What makes tokens of rows, with every branch that the method or the held-out evaluation reads."""
    branches = dict.fromkeys(["chosen", "rejected", *recipe.method.branches])
    return AnswerEncoder(
        vlm.processor,
        branches=list(branches),
        max_length=recipe.data.max_length,
        max_answer_tokens=recipe.data.max_answer_tokens,
        history=recipe.data.scored_turns == "all",
        average=recipe.method.average,
    )


def without_chance(model: nn.Module) -> None:
    """Turns a base's own dropout off, and keeps its batch norms (of convolutional towers) on their running statistics.

    While training, a batch norm would go by the images beside a row, and change its statistics, the reference's too.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(_as_in_evaluation)


def _as_in_evaluation(module: nn.Module, _: Any) -> None:
    module.eval()


def prepare_policy(recipe: VlmRecipe, model: Any, say: Say) -> None:
    """Adds the LoRA or opens the weights; both models compute alike (`without_chance`)."""
    lora = recipe.model.lora
    without_chance(model)
    if lora is not None:
        counts = add_vlm_lora(
            model,
            rank=lora.rank,
            alpha=lora.alpha,
            targets=lora.targets,
            dropout=lora.dropout,
            seed=recipe.train.seed,
        )
    else:
        parts: tuple[Part, ...] = ("language", "head", "projector") if recipe.model.projector else ("language", "head")
        train_only(model, parts)
        counts = check_trained(model, parts, adapters_only=False)
    say("trains " + ", ".join(f"{count:,} numbers of the {part}" for part, count in counts.items()))
    if recipe.train.gradient_checkpointing:
        options = {"use_reentrant": False}  # what is computed again sees the adapters as they are then: on
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        else:  # transformers before it was renamed
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def build_vlm_reference(recipe: VlmRecipe, model: nn.Module) -> Reference | None:
    """Adapters off for a LoRA, a frozen copy for a full fine-tune, None where no term compares.

    Where the reference is computed before the first step, there is no second model: the policy is the reference then.
    """
    kind = recipe.method.reference
    if kind == "auto":
        if not any(part.entry.needs_reference for part in recipe.method.parts):
            return None
        kind = "frozen_copy" if recipe.model.lora is None else "adapters_off"
    if kind == "frozen_copy":
        return None if recipe.method.cache_reference else FrozenCopy(model)
    return AdaptersOff(model)


def build_answer_terms(method: VlmMethod) -> tuple[list[AnswerTerm], float]:
    """(the losses with their options bound, the scale of implied rewards)."""
    terms, scale = [], None
    for part in method.parts:
        options = part.options
        for name in beta_units.strengths(part.entry.options):
            scale = float(options[name]) if scale is None else scale
        terms.append(
            AnswerTerm(
                name=part.loss,
                loss=partial({**LOSSES, **VISUAL_LOSSES}[part.loss], **options),
                chosen=split_side(part.chosen),
                rejected=split_side(part.rejected),
                branches=part.branches,
                extra=tuple(part.entry.extra),
                weight=part.weight,
                by_token=part.entry.family == "token",
                one_sided=part.loss in _ONE_SIDED,
                z0=part.entry.feeds.get("z0", "z0") if part.entry.family == "point" else "",
                token_weights=method.token_weights or "activations",
            )
        )
    return terms, 1.0 if scale is None else scale


def tried_adapter(model: Any, rows: AnswerRows, indices: Sequence[int], say: Say) -> Autoregressive:
    """The adapter with the tricks that this model takes, tried on a few of the rows."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tricks = check_tricks(model, rows.answers(indices))
    for warning in said:
        say(f"warning: {warning.message}")
    return Autoregressive(tricks)
