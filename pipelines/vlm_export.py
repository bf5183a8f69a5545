"""`mmpo export` of a vision-language model's run: a folder that needs no peft, for serving, or the adapter alone."""

from __future__ import annotations

from pathlib import Path

from pipelines.export_folder import copy_folder, is_free, write_folder
from pipelines.report_places import known_paths
from pipelines.report_run import VlmRun

VLM_KINDS = ("merged", "peft")


def export_vlm(run: VlmRun, kind: str, output: Path | None = None) -> Path:
    """Writes a run's weights for others, and returns the folder.

    `merged`: what `AutoModelForImageTextToText` and `AutoProcessor` load, in the base's own dtype, for vLLM, SGLang and
    their like. `peft`: the adapter, for `PeftModel.from_pretrained` and for servers that take adapters.

    Args:
        run: finished.
        kind: one of `VLM_KINDS`.
        output: a folder; default: RUN/export/KIND.
    Raises:
        ValueError: no such kind, no weights yet, no adapter to write, or a place that is taken.
    """
    if kind not in VLM_KINDS:
        raise ValueError(
            f"export --to: '{kind}' is not for vision-language models; take merged, for transformers and vLLM, "
            "or peft, the adapter"
        )
    weights = run.weights
    if run.summary is None or weights is None:
        raise ValueError(f"export: {run.folder} has no finished weights yet; run `mmpo train {run.folder} --resume`")
    lora = run.recipe.model.lora is not None
    if kind == "peft" and not lora:
        raise ValueError("export --to peft: this run trained every weight, so it has no adapter; take --to merged")
    place = output if output is not None else run.folder / "export" / kind
    if weights.resolve() in (place.resolve(), *place.resolve().parents):
        raise ValueError(f"export --output {place}: these are the run's own weights; name another place")
    if not is_free(place):
        raise ValueError(f"export --output {place}: something else is there already; name a new or an empty folder")
    known = known_paths(run)
    if kind == "merged" and lora:
        return write_folder(place, known, lambda partial: _merge(run, weights, partial))
    return write_folder(place, known, lambda partial: copy_folder(weights, partial))


def _merge(run: VlmRun, adapter: Path, partial: Path) -> None:
    """The base in its own dtype with the LoRA added to its weights; the image processor's file also by its old name,
    which transformers before 5 and servers that are built on it read."""
    from mmpo.models.quiet import quiet_transformers
    from mmpo.models.vlm import stored_dtype
    from mmpo.models.vlm_saving import merge_vlm

    model = run.recipe.model
    dtype = stored_dtype(model.path, model.revision)
    with quiet_transformers():
        from transformers import AutoProcessor

        merge_vlm(adapter, partial, base=model.path, revision=model.revision, dtype=dtype, max_pixels=model.max_pixels)
        AutoProcessor.from_pretrained(partial).image_processor.save_pretrained(partial)
