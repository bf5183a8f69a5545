"""The recipe of `mmpo retrieve`: answers about images x one VLM -> a rejected answer and image each. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmpo.recipe_section import NonNegative, Number, PathText, Positive, _Section
from mmpo.respond_recipe import RespondModel


class RetrieveData(_Section):
    """The chosen answers."""

    path: PathText = Field(
        description="rows of an image, a question and a good answer (response, or chosen), what mmpo respond wrote, or "
        "LLaVA's conversations; parquet, JSON, CSV, or a data set on the hub"
    )
    images: PathText | None = Field(
        None, description="folder that image paths are relative to; default: that of the file they stand in"
    )
    split: str | None = Field(None, description="of a data set on the hub (default: train), or of files named by split")
    columns: dict[str, str] = Field({}, description="renames: {chosen: output} where theirs is named output")
    streaming: bool = Field(True, description="read a hub data set as a stream; false downloads it once and keeps it")
    limit: Positive | None = Field(None, description="the first so many answers that can be read")
    on_bad_row: Literal["skip", "error"] = Field("skip", description="skipped rows are counted and named")


class Retrieval(_Section):
    """How the other image is found, and what is made of it."""

    images: PathText | None = Field(
        None, description="folder or data set whose images are searched; default: the images of data.path"
    )
    neighbours: Positive = Field(10, description="the nearest so many images are tried; then the row is skipped")
    search: Literal["torch", "faiss"] = Field("torch", description="both exact; faiss needs mmpo[retrieval]")
    copy_cosine: Number = Field(
        0.9999, gt=0, le=1, description="an image at least so near is a copy of the row's own, and left out; 1: none is"
    )
    mask: Literal["words", "model"] = Field(
        "words", description="who masks the answer: words, an English list without a model; model, the VLM is asked"
    )
    mask_unit: Literal["segment", "sentence"] = Field("segment", description="what is masked around a word of content")
    similarity: str = Field(
        "sentence-transformers/all-mpnet-base-v2",
        description="folder or hub name of a transformers text encoder (its mean token state); words: counts of words",
    )
    tau: Number = Field(0.95, gt=-1, le=1, description="a completion less similar to the answer than this is taken")
    temperature: Number = Field(0.0, ge=0, description="of the completion; 0 takes the likeliest token")
    top_p: Number = Field(0.95, gt=0, le=1, description="draw from the likeliest tokens of so much probability")
    max_new_tokens: Positive = Field(512, description="a completion that is longer is cut, and its provenance says so")
    seed: NonNegative = Field(0, description="of the draws, where the temperature is above 0")
    batch_size: Positive = Field(1, description="completions at once; with 1 none depends on what stands beside it")
    rows_per_shard: Positive = Field(64, description="of a file: what a call that was killed does again")


class RetrieveRecipe(_Section):
    """One set of pairs. Precedence: command line > file > default."""

    model: RespondModel
    data: RetrieveData
    retrieval: Retrieval = Retrieval()
    output: PathText = Field(description="folder of the pairs")
