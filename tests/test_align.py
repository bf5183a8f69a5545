"""Training from Python: a pipeline and rows in memory give the run that a recipe gives."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict, load_dataset
from PIL import Image

from mmpo.data.images import decode
from mmpo.data.source_memory import open_memory
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline, weights_hash
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from pipelines.align import align
from pipelines.train import train

SECTIONS: dict[str, Any] = {
    "method": {"beta": 500},
    "optim": {"lr": 1e-3, "schedule": "constant"},
    "train": {"steps": 3, "batch_size": 4, "precision": "fp32", "checkpoint_every": 2},
    "evaluation": {"every": 3, "held_out_pairs": 4, "draws": 1, "previews": {"count": 0}},
}


def pipeline_of(folder: Path) -> Any:
    """The tiny pipeline, loaded as a user would."""
    return load_pipeline(read_config(str(folder)), dtype=torch.float32)


def losses_of(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


@pytest.fixture(scope="module")
def by_recipe(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, pairs_folder: Path) -> Path:
    """The same run by a recipe."""
    folder = tmp_path_factory.mktemp("recipe") / "run"
    return train(validate(tiny.recipe_tree(sd_folder, pairs_folder, folder, train__steps=3)))


def in_memory(pairs: Path, kind: str) -> Any:
    """The tiny pairs as what a Python user may have in hand."""
    data = load_dataset("parquet", data_files=str(pairs / "*.parquet"), split="train", cache_dir=str(pairs / "hf"))
    assert isinstance(data, Dataset)
    if kind == "dataset":
        return data
    if kind == "rows":
        return list(data)  # images as PIL
    if kind == "generator":
        return (dict(row) for row in data.cast_column("chosen", data.features["rejected"]))
    return str(pairs)


@pytest.mark.parametrize("kind", ["dataset", "rows", "generator", "path"])
def test_the_run_is_the_recipes(
    sd_folder: Path, pairs_folder: Path, by_recipe: Path, tmp_path: Path, kind: str
) -> None:
    pipeline = pipeline_of(sd_folder)
    run = align(pipeline, in_memory(pairs_folder, kind), output=tmp_path / "run", lora={"rank": 4}, **SECTIONS)
    assert losses_of(run) == losses_of(by_recipe)
    assert (run / "pytorch_lora_weights.safetensors").is_file()


def test_the_pipeline_samples_with_the_tuned_weights(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    def image(pipeline: Any) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 3, "output_type": "np", "generator": generator}
        return pipeline("a red cat", **options).images[0]

    tuned, base, loaded = pipeline_of(sd_folder), pipeline_of(sd_folder), pipeline_of(sd_folder)
    sections = {**SECTIONS, "optim": {"lr": 1e-2, "schedule": "constant"}}
    run = align(tuned, str(pairs_folder), output=tmp_path / "run", lora={"rank": 4}, **sections)
    loaded.load_lora_weights(run)
    assert not np.array_equal(image(tuned), image(base))
    np.testing.assert_allclose(image(tuned), image(loaded), atol=1e-5)


def test_every_weight_without_lora(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(sd_folder)
    before = weights_hash(pipeline.unet)
    run = align(pipeline, str(pairs_folder), output=tmp_path / "run", **SECTIONS)
    saved = load_pipeline(read_config(str(run / "pipeline")), dtype=torch.float32)
    assert before != weights_hash(pipeline.unet) == weights_hash(saved.unet)


def test_it_can_be_resumed(sd_folder: Path, pairs_folder: Path, by_recipe: Path, tmp_path: Path) -> None:
    first = {**SECTIONS, "train": {**SECTIONS["train"], "steps": 2}}
    align(pipeline_of(sd_folder), str(pairs_folder), output=tmp_path / "run", lora={"rank": 4}, **first)
    (tmp_path / "run" / "train.json").unlink()
    run = align(
        pipeline_of(sd_folder), str(pairs_folder), output=tmp_path / "run", lora={"rank": 4}, resume=True, **SECTIONS
    )
    assert losses_of(run) == losses_of(by_recipe)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected rows as dictionaries of columns, got nothing"),
        ([1, 2], "got one of type int"),
        (5, "expected a path, a datasets.Dataset or rows, got int"),
        (DatasetDict(), "got DatasetDict; choose one split"),
        ([{"text": "a", "image": b""}], "found the columns text, image"),
        ([{"prompt": "a", "chosen": b"x", "rejected": b"y"}], "the rows in memory, row 0"),
        ([{"prompt": "a", "chosen": "no.png", "rejected": "no.png"}], r"row 0: column 'chosen': .*no\.png"),
    ],
    ids=["empty", "numbers", "number", "splits", "columns", "images", "files"],
)
def test_rows_that_cannot_be_used_are_named(sd_folder: Path, tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(pipeline_of(sd_folder), data, output=tmp_path / "run", lora={"rank": 4}, **SECTIONS)
    assert not (tmp_path / "run" / "train.json").exists()


def test_a_wrong_option_is_named_before_anything_is_loaded(sd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"align:\n  train\.stpes: unknown key; did you mean 'steps'"):
        align(pipeline_of(sd_folder), [], output=tmp_path / "run", train={"stpes": 5})


def test_a_pipeline_with_a_lora_on_it_is_refused(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """Trained and saved as if it were the base, it would lose weights in silence; taken off, all is well."""
    pipeline = pipeline_of(sd_folder)
    align(pipeline, str(pairs_folder), output=tmp_path / "first", lora={"rank": 4}, **SECTIONS)
    for lora in (None, {"rank": 4}):
        with pytest.raises(ValueError, match=r"the pipeline's unet carries a LoRA already.*unload_lora_weights"):
            align(pipeline, str(pairs_folder), output=tmp_path / "second", lora=lora, **SECTIONS)
    assert not (tmp_path / "second").exists()
    pipeline.unload_lora_weights()
    again = align(pipeline, str(pairs_folder), output=tmp_path / "second", lora={"rank": 4}, **SECTIONS)
    assert losses_of(again) == losses_of(tmp_path / "first")


def test_an_early_error_leaves_the_pipeline_as_it_was(sd_folder: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(sd_folder)
    with pytest.raises(ValueError, match="got nothing"):
        align(pipeline, [], output=tmp_path / "run", lora={"rank": 4})
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}


@pytest.mark.parametrize("start", [False, True], ids=["new LoRA", "LoRA gone on from"])
def test_half_precision_leaves_a_pipeline_that_samples(
    sd_folder: Path, pairs_folder: Path, by_recipe: Path, tmp_path: Path, start: bool
) -> None:
    """Nothing of the training stays on it: neither accelerate's autocast nor the reference's adapter."""
    pipeline = pipeline_of(sd_folder)
    sections = {**SECTIONS, "train": {**SECTIONS["train"], "precision": "bf16", "gradient_checkpointing": True}}
    lora = {"start": str(by_recipe)} if start else {"rank": 4}
    align(pipeline, str(pairs_folder), output=tmp_path / "run", lora=lora, **sections)
    assert "forward" not in vars(pipeline.unet)
    assert list(pipeline.unet.peft_config) == ["default"]
    assert not pipeline.unet.training
    assert pipeline.vae.dtype == torch.bfloat16
    assert pipeline("a red cat", num_inference_steps=2).images[0].size == (16, 16)


def test_a_denoiser_that_takes_more_than_latents_is_refused_early(sd_folder: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(sd_folder)
    pipeline.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match=r"takes and gives \[4, 9\] channels.*inpainting"):
        align(pipeline, [{"prompt": "a", "chosen": b"x", "rejected": b"y"}], output=tmp_path / "run", **SECTIONS)


def test_images_in_memory_are_read_as_they_are_meant() -> None:
    """Rotated by EXIF, CMYK, floating point and NumPy images give what their file would give."""
    upright = Image.fromarray(np.arange(16 * 32 * 3, dtype=np.uint8).reshape(32, 16, 3))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright.save(buffer, "JPEG", exif=exif, quality=95)
    images = {
        "rotated": Image.open(io.BytesIO(buffer.getvalue())),
        "cmyk": Image.new("CMYK", (16, 16), (0, 255, 255, 0)),
        "numpy": np.full((16, 16, 3), 7, np.uint8),
        "grey": np.full((16, 16), 9, np.uint8),
    }
    read = {
        name: decode(next(iter(open_memory([{"chosen": image}]).rows())).image("chosen"))
        for name, image in images.items()
    }
    assert read["rotated"].size == decode(buffer.getvalue()).size == (32, 16)
    assert read["cmyk"].getpixel((0, 0)) == decode(tiff(images["cmyk"])).getpixel((0, 0))
    assert read["numpy"].getpixel((3, 3)) == (7, 7, 7)
    assert read["grey"].getpixel((3, 3)) == (9, 9, 9)


def tiff(image: Any) -> bytes:
    """The image's file in a format that keeps its inks."""
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    return buffer.getvalue()


def test_an_image_in_memory_that_cannot_be_read_is_a_bad_row(sd_folder: Path, tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "JPEG")
    cut = Image.open(io.BytesIO(whole.getvalue()[:-400]))
    (row,) = open_memory([{"prompt": "a", "chosen": cut, "rejected": cut}]).rows()
    assert "an image in memory cannot be used" in row.fault
