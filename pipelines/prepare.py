"""A recipe's data: made where the recipe says how, read, encoded once, with what was left out said aloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from mmpo.data.buckets import image_sizes
from mmpo.data.cache import TensorCache
from mmpo.data.encoding import Caches, EncodedRow, encode_groups
from mmpo.data.latent_caches import LatentCaches
from mmpo.data.readers import OpenPairs, ReadReport, open_pairs, read_open
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.families import call_options, encode_images, long_prompts
from mmpo.recipe import Recipe
from mmpo.training.metrics import Console
from pipelines.checks import cache_folder, loss_needs, pair_options
from pipelines.own_samples import is_made, make_pairs

Say = Callable[[str], None]


def make_data(recipe: Recipe, pipeline: Any, base_hash: str, say: Say) -> None:
    """Makes `data.path` where the recipe says how and it is not there yet."""
    if recipe.data.make is None:
        return
    model = {"model": recipe.model.path, "revision": recipe.model.revision, "weights": base_hash}
    if not is_made(recipe.data, model):
        make_pairs(recipe.data, model, lambda: pipeline, say)


def encode_data(
    recipe: Recipe,
    config: CheckpointConfig,
    pipeline: Any,
    hashes: Mapping[str, str],
    accelerator: Accelerator,
    resolution: int,
    say: Say,
    *,
    opened: OpenPairs | None = None,
) -> tuple[list[EncodedRow], Caches]:
    """The index of usable rows and the filled caches; the main process fills them, the others then read.

    Args:
        hashes: of the pipeline's components, by which the caches are keyed.
        opened: rows that were found already, in place of the recipe's data.
    """
    data = recipe.data
    folder = cache_folder(data)
    with accelerator.main_process_first():
        caches = Caches(
            LatentCaches(folder, {"vae": hashes["vae"], "with": "time_ids"}),
            text_cache(folder, config, pipeline, hashes),
        )
        report = ReadReport()
        opened = opened or open_pairs(data.path, **pair_options(data), **loss_needs(recipe))
        groups = read_open(opened, limit=data.limit, on_bad_row=data.on_bad_row, report=report)
        total = min((n for n in (data.limit, report.total) if n is not None), default=0)
        done = Counter[str]()
        with Console(total, start=0, enabled=accelerator.is_main_process, title="encode") as console:

            def encode_prompts(texts: Sequence[str]) -> Mapping[str, Tensor]:
                done["cut"] += long_prompts(pipeline, texts)
                return config.family.encode_prompts(pipeline, texts)

            def encoded(count: int) -> None:
                done["rows"] += count
                console.advance(done["rows"], "pairs")

            rows = encode_groups(
                groups,
                caches,
                partial(encode_images, pipeline.vae),
                encode_prompts,
                sizes=image_sizes(resolution, config.downscale * config.cells, buckets=data.buckets),
                mirrored=data.flip > 0,
                own_captions=data.captions != "prompt",
                on_bad_row=data.on_bad_row,
                score_by=data.list_scores,
                report=report,
                progress=encoded,
            )
    if not rows:
        raise ValueError(report.nothing(data.path))
    for dropped in caches.latents.dropped + caches.texts.dropped:
        say(f"warning: a damaged cache file was computed again: {dropped}")
    tell_left_out(report, data.path, say)
    for line in _shapes_and_captions(recipe, rows):
        say(line)
    if done["cut"]:
        say(f"warning: {done['cut']} prompts are longer than the text encoder takes; their ends are cut")
    return rows, caches


def text_cache(folder: Path, config: CheckpointConfig, pipeline: Any, hashes: Mapping[str, str]) -> TensorCache:
    """Where encoded prompts are kept, keyed by the pipeline's text encoders."""
    parts = [name for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if getattr(pipeline, name, None)]
    made_by = {
        "encoders": [hashes[name] for name in parts],
        "dtype": str(pipeline.dtype),
        "family": config.family.name,
        "empty is zero": bool(pipeline.config.get("force_zeros_for_empty_prompt")),
        **call_options(pipeline),
    }
    return TensorCache(folder, "text", made_by)


def _shapes_and_captions(recipe: Recipe, rows: Sequence[EncodedRow]) -> Iterator[str]:
    """What sizes and captions the rows have, where the recipe or the data makes it worth a line.

    Raises:
        ValueError: `data.captions: own`, and there are none.
    """
    data = recipe.data
    if data.buckets:
        counts = Counter(row.size for row in rows).most_common()
        listed = ", ".join(f"{size.width}x{size.height} {count}" for size, count in counts)
        yield f"buckets (width x height, pairs): {listed}"
    own = sum(bool(row.captions) for row in rows)
    if data.captions == "own" and not own:
        raise ValueError(
            f"data.captions: own needs a caption of each image, and {data.path} has none that differs from its "
            "prompt; expected the columns caption_chosen and caption_rejected (pairs), caption_0 and caption_1 "
            "(pick_a_pic), or captions (lists)"
        )
    if own:
        yield f"{own} of {len(rows)} groups have captions of their own; their images are trained under them"


def tell_left_out(report: ReadReport, path: str, say: Say) -> None:
    """Says how many rows were read, and which were left out."""
    counts = report.counts
    say(f"{path}: {counts['rows']} rows" + (f", left out: {report.left_out}" if report.left_out else ""))
    if report.note:
        say(f"note: {report.note}")
    for message in report.bad:
        say(f"warning: skipped {message}")
    if counts["bad"] > len(report.bad):
        say(f"warning: and {counts['bad'] - len(report.bad)} more bad rows")
