"""The recipe of `mmpo train` for vision-language models: answers about images, compared branch by branch. No torch.

`method.adapter: autoregressive` says that a recipe is of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from mmpo.data.extra_columns import ExtraColumn
from mmpo.loss_entry import LossEntry, Value
from mmpo.loss_feeds import columns_of
from mmpo.loss_names import resolve
from mmpo.recipe import Guard, Optim, Previews, Train
from mmpo.recipe_section import NonNegative, Number, PathText, Positive, _Section
from mmpo.rollout_recipe import Rollout
from mmpo.suggest import one_of
from mmpo.vlm_methods import FEEDS_OF_ANSWERS, METHODS, VLM_TABLE, split_side, untrainable_on_answers

ADAPTER = "autoregressive"


class VlmLora(_Section):
    """Low-rank adaptation; never of the output head, and of the vision tower only by its full name."""

    rank: Positive = Field(64, description="of the two matrices a layer gets")
    alpha: Number | None = Field(None, gt=0, description="scale numerator; default: the rank")
    targets: Literal["language", "language_projector"] | list[str] = Field(
        "language", description="every linear layer of the language model, the projector's too, or names of layers"
    )
    dropout: Number = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs that is dropped while training")


class VlmModel(_Section):
    """The checkpoint to align."""

    path: PathText = Field(description="transformers folder or hub name of a vision-language model, or shapes/NAME")
    revision: str | None = Field(None, description="branch, tag or commit of a hub name")
    lora: VlmLora | None = Field(None, description="none: every weight of the language model is trained")
    projector: bool = Field(False, description="without a LoRA: whether the projector is trained too")
    max_pixels: Positive | None = Field(
        None, description="of an image of Qwen-VL and its like; larger ones are scaled down, 784 or 1024 pixels a token"
    )
    quantize: Literal["nf4"] | None = Field(None, description="the frozen base of a LoRA in 4 bits (bitsandbytes)")


class VlmData(_Section):
    """Preferences between answers, or between images for one answer."""

    path: PathText = Field(description="JSON, JSONL, parquet, a saved data set, one on the hub, or shapes/train")
    format: str = Field("auto", description="auto goes by the columns; `mmpo data inspect` says which it is")
    split: str | None = Field(None, description="of a hub data set (default: train), or of files named by split")
    columns: dict[str, str] = Field({}, description="renames: {chosen: better} where theirs is named better")
    image_root: PathText | None = Field(
        None, description="folder that image paths are relative to; default: that of the file they stand in"
    )
    streaming: bool = Field(True, description="read a hub data set as a stream; false downloads it once and keeps it")
    limit: Positive | None = Field(None, description="the first so many pairs")
    max_length: Positive | None = Field(
        None, description="tokens of question, images and answer; a longer row is bad, and images are never cut"
    )
    max_answer_tokens: Positive | None = Field(None, description="longer answers are cut to so many tokens")
    scored_turns: Literal["last", "all"] = Field(
        "last", description="whose tokens count: the last answer's, or those of all the assistant's turns before it too"
    )
    group_by_length: bool = Field(False, description="rows of about one length in a forward: less padding")
    on_bad_row: Literal["skip", "error"] = Field("skip", description="skipped rows are counted and named")
    cache: PathText | None = Field(None, description="folder of the reference's caches; default: data.path/.cache")


class VlmTerm(_Section):
    """One loss over two branches. Its own options stand beside its name."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    loss: str = Field(description="a loss of pairs of `mmpo losses`, or anchor, v_dpo, chip")
    chosen: str = Field("chosen", description="the branch that is to become more likely")
    rejected: str = Field(
        "rejected", description="the other: rejected, visual (the chosen answer under the rejected image), prior, blind"
    )
    weight: Number = Field(1.0, gt=0, description="multiplies this loss")

    @field_validator("loss")
    @classmethod
    def _known(cls, name: str) -> str:
        return resolve(name, VLM_TABLE)

    @model_validator(mode="after")
    def _check(self) -> VlmTerm:
        reason = untrainable_on_answers(self.loss)
        if reason:
            raise ValueError(f"loss: '{self.loss}' {reason}")
        for name, value in (self.model_extra or {}).items():
            option = self.entry.options.get(name)
            if option is None:
                valid = [*self.entry.options, *type(self).model_fields]
                raise ValueError(f"{name}: not an option of loss '{self.loss}'; {one_of(name, valid)}")
            if fault := option.fault(value):
                raise ValueError(f"{name}: {fault}")
        for side in (self.chosen, self.rejected):
            split_side(side)
        if self.entry.family == "token" and "." in self.chosen + self.rejected:
            raise ValueError(f"loss: '{self.loss}' takes the branches' own tokens; leave out what stands after the dot")
        return self

    @property
    def entry(self) -> LossEntry:
        """The loss's row of the table."""
        return VLM_TABLE[self.loss]

    @property
    def options(self) -> dict[str, Value]:
        """The loss's options as given, defaults of token log-likelihoods filled in."""
        given = self.model_extra or {}
        return {name: option.read(given.get(name, option.default)) for name, option in self.entry.options.items()}

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that a row must have for this term, in a fixed order."""
        sides = [self.chosen] if self.loss in ("anchor", "sft") else [self.chosen, self.rejected]
        names = [split_side(side) for side in sides]
        others = [read.removeprefix("own:") for _, read in names if read.startswith("own:")]
        feeds = [branch for name in self.entry.extra for branch in FEEDS_OF_ANSWERS.get(name, ())]
        return tuple(dict.fromkeys([*(branch for branch, _ in names), *others, *feeds]))


def uncached(parts: Sequence[VlmTerm]) -> str:
    """Why log-probabilities of tokens are not all that terms ask the reference for; empty where they are."""
    for part in parts:
        if any(name in part.entry.extra for name in ("chosen_kl", "rejected_kl")):
            return f"loss '{part.loss}' takes divergences from all that the reference would say, and the answer is kept"
        if "mismatched_z0" in part.entry.feeds.values():
            return f"loss '{part.loss}' asks for answers to other rows' questions too, which differ from step to step"
        read = next((side for side in (part.chosen, part.rejected) if "." in side), "")
        if read:
            return f"{read} is of tokens that the reference chooses itself, and the answer's are kept"
    if not any(part.entry.needs_reference for part in parts):
        return f"no loss of {' + '.join(part.loss for part in parts)} compares with a reference"
    return ""


class VlmMethod(_Section):
    """A named method, a loss, or terms; options such as beta beside a name go to each of its terms that has them."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    adapter: Literal["autoregressive"] = Field("autoregressive", description="log-probabilities of tokens")
    loss: str | None = Field("dpo", description=f"{', '.join(METHODS)}, or a loss of pairs of `mmpo losses`")
    terms: list[VlmTerm] = Field([], description="losses over branches in place of a name, added up")
    negative_image: Literal["data", "crop", "noise", "black", "random"] = Field(
        "data",
        description="the rejected image: the row's own; or of its image a crop of 1 to 20 % (mDPO), noise of step 500 "
        "(POVID, CHiP), or black; or another row's. Drawn once by the row's id",
    )
    segment_weight: Number | None = Field(
        None, gt=0, description="what tokens weigh that differ between the answers (RLHF-V); the others weigh 1"
    )
    average: bool = Field(
        False,
        description="log-likelihoods are means over an answer's tokens, weighted by segment_weight, and not sums "
        "(RLHF-V's and RLAIF-V's dpo_use_average)",
    )
    token_weights: Literal["activations", "segments"] | None = Field(
        None,
        description="of sparse_po: the reference's activations, rescaled to 0 to 1 (its MaPO, the default), or "
        "segment_weight",
    )
    reference: Literal["auto", "adapters_off", "frozen_copy"] = Field(
        "auto", description="adapters_off: a LoRA's base; frozen_copy: a second model"
    )
    cache_reference: NonNegative = Field(
        0,
        le=1,
        description="1: the reference's log-probabilities of tokens are computed once, before the first step, and "
        "kept; a full fine-tune then needs no second model. 0: computed live",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_loss_beside_terms(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("terms") and "loss" not in data:
            return {**data, "loss": None}
        return data

    @model_validator(mode="after")
    def _check(self) -> VlmMethod:
        extra = self.model_extra or {}
        if (self.loss is None) == (not self.terms):
            raise ValueError("terms: stand in place of loss; give one of the two, and set the other to null")
        if self.loss is None and extra:
            raise ValueError(f"{next(iter(extra))}: options stand beside the loss that they belong to, inside its term")
        parts = self.parts  # says what is wrong with them
        unused = [name for name in extra if not any(name in part.entry.options for part in parts)]
        if unused:
            valid = [*(name for part in parts for name in part.entry.options), *type(self).model_fields]
            raise ValueError(f"{unused[0]}: not an option of '{self.name}'; {one_of(unused[0], valid)}")
        by_token = [part.loss for part in parts if part.entry.family == "token" or part.entry.needs_lengths]
        if self.average and by_token:
            raise ValueError(f"average: loss '{by_token[0]}' takes tokens or their number itself; set it to false")
        if self.token_weights and not any(part.loss == "sparse_po" for part in parts):
            raise ValueError(f"token_weights: is of sparse_po, and the method is {self.name}; leave it out")
        fault = uncached(parts) if self.cache_reference else ""
        if fault:
            raise ValueError(f"cache_reference: {fault}; set it to 0")
        return self

    @property
    def parts(self) -> tuple[VlmTerm, ...]:
        """The terms whose weighted sum is minimised.

        Raises:
            ValueError: no method or loss of this name, or a wrong option.
        """
        if self.loss is None:
            return tuple(self.terms)
        shorthand = METHODS.get(self.loss)
        if shorthand is None and self.loss not in VLM_TABLE:
            raise ValueError(f"loss: {one_of(self.loss, {**VLM_TABLE, **METHODS})}")
        found = []
        for term in shorthand or ({"loss": self.loss},):
            known = VLM_TABLE[term["loss"]].options
            given = {name: value for name, value in (self.model_extra or {}).items() if name in known}
            found.append(VlmTerm.model_validate({**term, **given}))
        return tuple(found)

    @property
    def name(self) -> str:
        """The method's name, or those of the terms."""
        return self.loss or " + ".join(part.loss for part in self.parts)

    @property
    def weight(self) -> float:
        """Of the whole; terms have weights of their own."""
        return 1.0

    @property
    def branches(self) -> tuple[str, ...]:
        """Every branch that some term reads."""
        return tuple(dict.fromkeys(branch for part in self.parts for branch in part.branches))

    @property
    def columns(self) -> dict[str, ExtraColumn]:
        """The columns that the losses need beside answers, by name."""
        return {name: column for part in self.parts for name, column in columns_of(part.entry, {}).items()}


class VlmEvaluation(_Section):
    """Held-out preferences while training; and what `mmpo eval RUN` asks base and tuned."""

    every: Positive = Field(100, description="steps between held-out evaluations")
    held_out_pairs: NonNegative = Field(256, description="kept from training by question, at most a fifth; 0 is none")
    guard: Guard = Guard()
    questions: Literal["shapes/tune", "shapes/test"] | None = Field(
        None, description="the built-in world's test of hallucination; default: shapes/tune for a run on that world"
    )
    limit: Positive | None = Field(None, description="the first so many scenes of that test")
    answers: NonNegative = Field(16, description="held-out rows that `mmpo eval` has both models answer and keeps")
    max_new_tokens: Positive = Field(256, description="of an answer; a longer one is cut")
    batch_size: Positive = Field(16, description="questions of one forward of `mmpo eval`")
    seed: NonNegative = Field(0, description="of the intervals")
    settings_tried: Positive | None = Field(None, description="how many settings were compared before this one")

    @property
    def previews(self) -> Previews:
        """None are drawn."""
        return Previews(count=0)

    @property
    def validation(self) -> None:
        """No samples are looked at while training."""
        return None


class VlmRecipe(_Section):
    """One run. Precedence: command line > file > default."""

    model: VlmModel
    data: VlmData
    method: VlmMethod = VlmMethod()
    optim: Optim = Optim()
    train: Train = Train()
    evaluation: VlmEvaluation = VlmEvaluation()
    output: PathText = Field(description="folder of the run")

    @property
    def rollout(self) -> Rollout | None:
        """Stored preferences alone so far."""
        return None

    def _check_spread(self) -> None:
        """fsdp2 spreads the language model; tower and projector stay whole, and nothing averages gradients there."""
        lora = self.model.lora
        if self.model.quantize:
            raise ValueError("train.distribution: fsdp2 spreads whole-precision weights; leave model.quantize out")
        if self.method.cache_reference:
            raise ValueError(
                "method.cache_reference: with fsdp2 all processes forward together, also where one has nothing to "
                "compute; set it to 0"
            )
        if self.model.projector or (lora is not None and lora.targets == "language_projector"):
            key = "model.projector" if lora is None else "model.lora.targets: language_projector"
            raise ValueError(f"{key}: fsdp2 leaves the projector whole and untrained; train the language model alone")

    @model_validator(mode="after")
    def _check_together(self) -> VlmRecipe:
        lora, train = self.model.lora, self.train
        if lora is None and (self.model.quantize or self.method.reference == "adapters_off"):
            key = "model.quantize" if self.model.quantize else "method.reference: adapters_off"
            raise ValueError(f"{key}: is the frozen base of a LoRA; set model.lora")
        if lora is not None and self.model.projector:
            raise ValueError("model.projector: is of a full fine-tune; with a LoRA set targets: language_projector")
        for key in ("one_candidate_at_a_time", "compile", "channels_last"):
            if getattr(train, key):
                raise ValueError(f"train.{key}: is not for vision-language models; leave it out")
        if train.distribution == "fsdp2":
            self._check_spread()
        if train.micro_batch_size is not None and train.batch_size % train.micro_batch_size:
            raise ValueError(
                f"train.micro_batch_size: {train.micro_batch_size} does not divide train.batch_size {train.batch_size}"
            )
        mismatched = any("mismatched_z0" in part.entry.feeds.values() for part in self.method.parts)
        if mismatched and 1 in (train.micro_batch_size, train.batch_size):
            raise ValueError(
                f"train.micro_batch_size: a forward has 1 row, and {self.method.name} compares with other rows' "
                "answers; raise train.batch_size or this (diffusion_kto does without)"
            )
        if self.optim.warmup_steps and self.optim.schedule == "constant":
            raise ValueError("optim.warmup_steps: schedule 'constant' has no warm-up; use constant_with_warmup")
        return self
