"""The rows that a vision-language model is trained on: read, checked as the model will see them, some held out."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmpo.answer_pairs import AnswerPair
from mmpo.data.answer_groups import AnswerRows, by_length
from mmpo.data.answer_readers import open_answers, read_open_answers
from mmpo.data.answer_spans import tokens_of, with_changed_spans
from mmpo.data.answer_tokens import AnswerEncoder, RowFault
from mmpo.data.images import decode
from mmpo.data.negative_images import with_negative_images
from mmpo.data.readers import ReadReport
from mmpo.data.split import hold_out
from mmpo.records import content_id
from mmpo.shapes.answer_pairs import answer_pairs
from mmpo.training.order import unit_of
from mmpo.vlm_recipe import VlmMethod, VlmRecipe

Say = Callable[[str], None]
SHAPES = "shapes/"
SHAPES_PAIRS = 2000
"""Pairs of the built-in world where the recipe names no limit."""
LARGE = 4 * 2**30
"""Bytes of images that are worth a word."""
_NAMED = 3


@dataclass(frozen=True)
class VlmFeed:
    """What a run trains on.

    Args:
        train, held_out: rows by position.
        clusters: per held-out row the key of its question.
        identity: what a resume must find unchanged.
        sample: up to three short training rows, to try a model on, with an image and both answers where there are.
    """

    train: AnswerRows
    held_out: AnswerRows
    clusters: Sequence[str]
    identity: Mapping[str, str]
    sample: Sequence[int]


@dataclass
class _Found:
    pairs: list[AnswerPair]
    lengths: dict[str, tuple[int, int]]
    keys: dict[str, dict[str, str]]
    others: Sequence[bytes]
    without: Counter[str]


@dataclass(frozen=True)
class OpenRows:
    """Rows that were found and not read yet, and what reading them will count."""

    pairs: Iterator[AnswerPair]
    report: ReadReport


def open_rows(recipe: VlmRecipe) -> OpenRows:
    """Finds a recipe's rows, before a model of many gigabytes is fetched.

    Raises:
        ValueError: no such data, or columns of no known layout.
    """
    report = ReadReport()
    return OpenRows(read_pairs(recipe, report), report)


def vlm_feed(recipe: VlmRecipe, encoder: AnswerEncoder, say: Say, rows: OpenRows | None = None) -> VlmFeed:
    """Reads, checks and splits the rows of a recipe.

    Args:
        rows: found before.
    Raises:
        ValueError: nothing is left to train on, a bad row where that is fatal, or no row has what the method needs.
    """
    rows = rows or open_rows(recipe)
    report = rows.report
    found = _good(recipe, encoder, list(_weighted(recipe, encoder, rows.pairs)), report)
    if not found.pairs:
        raise ValueError(report.nothing(recipe.data.path))
    size = sum(len(image) for image in {id(image): image for pair in found.pairs for image in _images(pair)}.values())
    if size >= LARGE:
        say(f"the rows' images take {size / 2**30:.1f} GiB of memory in every process; smaller files take less")
    for message in report.bad[:_NAMED]:
        say(f"left out: {message}")
    if report.left_out:
        say(f"left out of {report.counts['rows']} rows: {report.left_out}")
    for branch, count in found.without.items():
        say(f"{count} of {len(found.pairs)} rows have no {branch} branch; terms over it add 0 for them")
    train, held = hold_out(found.pairs, recipe.evaluation.held_out_pairs)
    if not train:
        raise ValueError(f"data.path {recipe.data.path}: no training pairs are left; all are of a held-out split")
    say(f"{len(train)} training pairs, {len(held)} held out")
    options: dict[str, Any] = {"negative_image": recipe.method.negative_image, "seed": recipe.train.seed}
    options["others"] = found.others
    lengths = [found.lengths[pair.id] for pair in train]
    sizes = by_length(lengths, unit_of(recipe.train)) if recipe.data.group_by_length else None
    return VlmFeed(
        train=AnswerRows(train, encoder, sizes=sizes, keys=_keys(found, train), **options),
        held_out=AnswerRows(held, encoder, keys=_keys(found, held), **options),
        clusters=[pair.prompt.cluster for pair in held],
        identity={
            "training rows": content_id("vlm rows", [_told(pair) for pair in train]),
            "held-out rows": content_id("vlm rows", [pair.id for pair in held]),
            "encoder": encoder.identity,
        },
        sample=_sample(train, [found.lengths[pair.id] for pair in train]),
    )


def read_pairs(recipe: VlmRecipe, report: ReadReport) -> Iterator[AnswerPair]:
    """The rows as the data has them."""
    data = recipe.data
    pairs: Iterator[AnswerPair]
    if data.path.startswith(SHAPES):
        pairs = _of_shapes(data.path.removeprefix(SHAPES), data.limit or SHAPES_PAIRS, recipe.train.seed)
        report.counts["rows"] = data.limit or SHAPES_PAIRS
    else:
        opened = open_answers(
            data.path,
            format=data.format,
            split=data.split,
            columns=data.columns,
            images=data.image_root,
            streaming=data.streaming,
            extra=recipe.method.columns,
        )
        pairs = read_open_answers(opened, limit=data.limit, on_bad_row=data.on_bad_row, report=report)
    return _shared(pairs)


def _weighted(recipe: VlmRecipe, encoder: AnswerEncoder, pairs: Iterator[AnswerPair]) -> Iterator[AnswerPair]:
    """With the method's segment weights; what differs is seen in tokens, as in RLHF-V's code."""
    weight = recipe.method.segment_weight
    if weight is None:
        return pairs
    pieces = tokens_of(encoder.tokenizer)
    return (with_changed_spans(pair, weight, pieces=pieces) for pair in pairs)


def _images(pair: AnswerPair) -> tuple[bytes, ...]:
    return (*pair.images, *(pair.rejected_images or ()))


def _shared(pairs: Iterable[AnswerPair]) -> Iterator[AnswerPair]:
    """The same rows; an image that several show is in memory once."""
    known: dict[bytes, bytes] = {}

    def once(images: Sequence[bytes]) -> tuple[bytes, ...]:
        return tuple(known.setdefault(image, image) for image in images)

    for pair in pairs:
        rejected = None if pair.rejected_images is None else once(pair.rejected_images)
        yield replace(pair, images=once(pair.images), rejected_images=rejected)


def _of_shapes(split: str, count: int, seed: int) -> Iterator[AnswerPair]:
    if split not in ("train", "tune", "test"):
        raise ValueError(f"data.path {SHAPES}{split}: expected shapes/train, shapes/tune or shapes/test")
    return answer_pairs(split, count, seed=seed)


def _good(recipe: VlmRecipe, encoder: AnswerEncoder, pairs: list[AnswerPair], report: ReadReport) -> _Found:
    """The rows that the model can be given and that some term can use."""
    method = recipe.method
    others = _whole(pairs) if method.negative_image == "random" else []
    found = _Found([], {}, {}, others, Counter())
    seen: set[str] = set()
    for pair in pairs:
        fault, kind, branches = "", "", {}
        try:
            shown = with_negative_images(pair, method.negative_image, seed=recipe.train.seed, others=others)
            encoded = encoder.encode(shown)
        except ValueError as error:
            fault, kind = f"row {pair.id} ({pair.source}): {error}", "broken_image"
        else:
            if isinstance(encoded, RowFault):
                fault, kind = str(encoded.error()), encoded.kind
            else:
                branches = dict.fromkeys(encoded.branches)
                kind, fault = _unusable(method, pair, branches)
        if fault:
            if recipe.data.on_bad_row == "error":
                raise ValueError(fault)
            report.drop(f"{kind}: {fault}")
            continue
        if pair.id in seen:
            report.counts["duplicates"] += 1
            continue
        seen.add(pair.id)
        found.pairs.append(pair)
        assert not isinstance(encoded, RowFault)
        found.lengths[pair.id] = (encoded.image_tokens, encoded.length)
        if method.cache_reference:
            found.keys[pair.id] = {name: f"{name}/{branch.key}" for name, branch in encoded.branches.items()}
        found.without.update(name for name in method.branches if name not in branches)
    _refuse_idle_terms(method, found)
    return found


def _whole(pairs: Sequence[AnswerPair]) -> list[bytes]:
    """Each image of the rows that can be decoded, once; one that cannot is its own row's fault and no other's."""
    found = []
    for image in dict.fromkeys(image for pair in pairs for image in pair.images):
        with contextlib.suppress(ValueError):
            decode(image)
            found.append(image)
    return found


def _unusable(method: VlmMethod, pair: AnswerPair, branches: Mapping[str, Any]) -> tuple[str, str]:
    """(kind, message) where no term can use a row, or one cannot be computed beside it; else empty."""
    usable = [set(part.branches) <= branches.keys() for part in method.parts]
    own = [part for part in method.parts if ".own:" in part.chosen + part.rejected]
    if any(usable) and all(set(part.branches) <= branches.keys() for part in own):
        return "", ""
    needs = " or ".join(" and ".join(part.branches) for part in (own or method.parts))
    return "no_branch", f"row {pair.id} ({pair.source}): has {', '.join(branches)}, and {method.name} needs {needs}"


def _refuse_idle_terms(method: VlmMethod, found: _Found) -> None:
    for branch, count in found.without.items():
        if count == len(found.pairs):
            hint = "; set method.negative_image to crop, noise, black or random" if branch.startswith("visual") else ""
            raise ValueError(f"method: {method.name} reads the branch {branch}, and no row of the data has it{hint}")


def _keys(found: _Found, pairs: Sequence[AnswerPair]) -> list[Mapping[str, str]]:
    return [found.keys[pair.id] for pair in pairs] if found.keys else []


def _sample(pairs: Sequence[AnswerPair], lengths: Sequence[tuple[int, int]]) -> list[int]:
    """Short rows: what they are tried by takes the logits of all positions at once."""
    order = sorted(range(len(pairs)), key=lambda at: lengths[at][1])
    both = [at for at in order if pairs[at].images and pairs[at].rejected is not None]
    return list(dict.fromkeys([*both[:2], *order]))[:3]


def _told(pair: AnswerPair) -> Any:
    return (pair.id, dict(pair.extra)) if pair.extra else pair.id
