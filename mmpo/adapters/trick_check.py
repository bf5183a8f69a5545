"""Which tricks a model takes: each is tried on real rows against the naive path before a run relies on it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from mmpo.adapters import branch_attention
from mmpo.adapters.autoregressive import Autoregressive, Tricks
from mmpo.adapters.naive_tokens import naive_logps
from mmpo.adapters.token_layout import lay_out
from mmpo.answer_batch import AnswerBatch, TokenLogps
from mmpo.models.vlm_parts import bare

TOLERANCES = {torch.float64: (1e-8, 1e-9), torch.float32: (1e-3, 1e-4)}
COARSE = (0.5, 0.05)
"""Most and mean difference of a token's log-probability that rounding is given; in bfloat16 and float16 `COARSE`."""

_FAILURES = (ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError)


def check_tricks(model: Any, batch: AnswerBatch, wanted: Tricks | None = None) -> Tricks:
    """The wanted tricks that give this model's own numbers; the others are left out with a warning that says why.

    With `share_prompt` found good, the model's attention is `branch_attention`'s from here on, which changes nothing
    elsewhere. Nothing of it is saved with the model.

    Args:
        model: as it will be trained; one naive forward and up to four others, without gradient.
        batch: a few real rows, among them one with images and both answers; a trick that they do not use is not tried
            and left out.
        wanted: default all.
    Raises:
        ValueError: even without tricks the rows' scores depend on how they are put into a batch.
        torch.OutOfMemoryError: no memory is left for these rows; take shorter ones.
    """
    wanted = wanted or Tricks()
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = naive_logps(model, batch)
            found = Tricks(share_images=False, vocabulary="all", share_prompt=False)
            why = _difference(model, batch, found, expected)
            if why:
                raise ValueError(f"model: the scores of rows depend on the rows beside them: {why}")
            found = _vocabulary(model, batch, found, wanted, expected)
            if wanted.share_images:
                found = _try(model, batch, found, replace(found, share_images=True), expected, "share_images")
            if wanted.share_prompt:
                found = _share_prompt(model, batch, found, expected)
    finally:
        model.train(was_training)
    return found


def _vocabulary(
    model: Any, batch: AnswerBatch, found: Tricks, wanted: Tricks, expected: Mapping[str, TokenLogps]
) -> Tricks:
    if wanted.vocabulary == "chunks":
        chunks = replace(found, vocabulary="chunks")
        tried = _try(model, batch, found, chunks, expected, "vocabulary: chunks")
        if tried is chunks:
            return tried
    if wanted.vocabulary != "all":
        return _try(model, batch, found, replace(found, vocabulary="scored"), expected, "vocabulary: scored")
    return found


def _share_prompt(model: Any, batch: AnswerBatch, found: Tricks, expected: Mapping[str, TokenLogps]) -> Tricks:
    inner = bare(model)
    if batch.types_name == "token_type_ids":
        return _left_out("share_prompt", "it attends both ways within images", found)
    try:
        branch_attention.install(inner)
    except _FAILURES as error:
        return _left_out("share_prompt", str(error), found)
    tried = _try(model, batch, found, replace(found, share_prompt=True), expected, "share_prompt")
    if tried is found:
        branch_attention.remove(inner)
    return tried


def _try(
    model: Any, batch: AnswerBatch, found: Tricks, more: Tricks, expected: Mapping[str, TokenLogps], name: str
) -> Tricks:
    why = _unused(batch, name) or _difference(model, batch, more, expected)
    return _left_out(name, why, found) if why else more


def _unused(batch: AnswerBatch, name: str) -> str | None:
    if name == "share_images" and not batch.images:
        return "none of the rows that were tried has an image"
    if name == "share_prompt" and not lay_out(batch, shared=True).shares:
        return "none of the rows that were tried has two answers under the same images"
    return None


def _difference(model: Any, batch: AnswerBatch, tricks: Tricks, expected: Mapping[str, TokenLogps]) -> str | None:
    """None where the scores are those of the naive path, or how they differ."""
    try:
        found = Autoregressive(tricks).logps(model, batch)
    except torch.OutOfMemoryError:  # a RuntimeError, and no fault of the model's
        raise
    except _FAILURES as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    most, mean = TOLERANCES.get(bare(model).dtype, COARSE)
    for name, scores in expected.items():
        difference = (found[name].logps - scores.logps).abs()
        average = difference.sum() / scores.mask.sum()
        if not (difference.max() <= most and average <= mean):
            return (
                f"branch {name}: log-probabilities differ by up to {difference.max():.2g} and {average:.2g} on average "
                f"({most:g} and {mean:g} are allowed)"
            )
    return None


def _left_out(name: str, why: str, found: Tricks) -> Tricks:
    warnings.warn(f"{name} is not used with this model: {why}; the slower way gives the same numbers", stacklevel=2)
    return found
