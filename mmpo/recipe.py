"""The recipe: the one typed, strict description of a run. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mmpo.loss_feeds import OF_ROLLOUTS, feeds_of
from mmpo.recipe_method import Method, Term
from mmpo.recipe_section import Decay, Fraction, NonNegative, Number, PathText, Positive, _Section
from mmpo.rollout_recipe import Reward, RewardSpec, Rollout
from mmpo.validation_recipe import Validation

__all__ = ["Method", "Recipe", "Reward", "RewardSpec", "Term"]


class Lora(_Section):
    """Low-rank adaptation of the denoiser."""

    rank: Positive = Field(
        16, description="of the two matrices a layer gets; more can learn more and takes more memory"
    )
    alpha: Number | None = Field(None, gt=0, description="scale numerator; default: the rank")
    targets: Literal["attention", "attention_convolutions"] | list[str] = Field(
        "attention", description="a named set of layers, or module names as peft takes them"
    )
    dropout: Number = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs that is dropped while training")
    start: PathText | None = Field(
        None, description="LoRA to go on from (folder or .safetensors); it sets rank, alpha and targets"
    )


class Model(_Section):
    """The checkpoint to align."""

    path: PathText = Field(
        description="diffusers folder, hub name, single .safetensors file, or shapes/NAME for a built-in one"
    )
    config: PathText | None = Field(
        None, description="of a single file: folder or hub name with its configs and tokenizer; default: by its kind"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub name")
    variant: str | None = Field(None, description="weight files such as fp16")
    lora: Lora | None = Field(None, description="none: every weight of the denoiser is trained")
    quantize: Literal["nf4", "int8"] | None = Field(
        None, description="the frozen base of a LoRA in 4 or 8 bits (bitsandbytes): less memory, a slower step"
    )


class Sampling(_Section):
    """How images are sampled, with the checkpoint's own scheduler."""

    steps: Positive = Field(30, description="denoising steps")
    guidance: Number = Field(7.5, ge=0, description="classifier-free guidance scale; 1 is off")
    batch_size: Positive = Field(4, description="images at once; they do not depend on it")
    height: Positive | None = Field(None, description="pixels; default: the checkpoint's")
    width: Positive | None = Field(None, description="pixels; default: the checkpoint's")


class _Place(_Section):
    """Where preferences are, and how they are read: what every recipe says of its data first."""

    path: PathText = Field(description="folder of images or of parquet shards, parquet or JSONL file, or hub data set")
    format: Literal[
        "auto",
        "pairs",
        "pick_a_pic",
        "ranked",
        "hpdv3",
        "hpdv2",
        "hpdv2_test",
        "image_reward",
        "image_reward_metadata",
        "votes",
        "weighted_votes",
        "aggregated_votes",
        "open_image_preferences",
        "rich_hf",
    ] = Field("auto", description="auto goes by the columns")
    split: str | None = Field(None, description="of a hub data set (default: train), or of files named by split")
    columns: dict[str, str] = Field({}, description="renames: {prompt: caption} where theirs is named caption")
    rejected: PathText | None = Field(
        None, description="second image folder, stems as in data.path, which holds the chosen"
    )
    streaming: bool = Field(True, description="read a hub data set as a stream; false downloads it once and keeps it")


class OwnSamples(_Section):
    """Makes `data.path` when it is not there: the model's own samples, scored by a reward, paired or ranked."""

    prompts: PathText = Field(description="shapes/train, shapes/tune, shapes/test, or a text file with a prompt a line")
    limit: Positive | None = Field(None, description="use the first so many prompts")
    per_prompt: int = Field(4, ge=2, description="images per prompt")
    reward: Reward = Field(description="name, or {name: ..., option: ...}")
    margin: Number = Field(0.0, ge=0, description="drop pairs whose scores differ by no more than this")
    pairs: Literal["best_worst", "all", "lists"] = Field(
        "best_worst",
        description="one pair a prompt, or several; lists: a ranked row of all its samples that are not all equal",
    )
    max_pairs_per_prompt: Positive = Field(3, description="upper limit for pairs: all")
    sampling: Sampling = Sampling()
    seed: NonNegative = Field(0, description="of the noise")

    @model_validator(mode="after")
    def _check_lists(self) -> OwnSamples:
        if self.pairs == "lists" and self.margin:
            raise ValueError("make.margin: pairs: lists ranks by the scores as they are; leave margin out")
        return self


class Data(_Place):
    """The preference pairs."""

    resolution: Positive | None = Field(None, description="pixels; default: what the checkpoint was trained at")
    buckets: bool = Field(
        False,
        description="keep the aspect ratio: each pair is trained at the nearest of several sizes of about "
        "resolution x resolution pixels; false: the centre square",
    )
    flip: Fraction = Field(
        0.0,
        description="probability that a pair is mirrored, both images or none; wrong for prompts that say left or "
        "right and for writing in images; latents are cached twice",
    )
    captions: Literal["auto", "own", "prompt"] = Field(
        "auto",
        description="train each image under its own caption where the data has them; own: an error where it has none; "
        "prompt: never",
    )
    on_bad_row: Literal["skip", "error"] = Field("skip", description="skipped rows are counted and named")
    limit: Positive | None = Field(None, description="the first so many pairs")
    list_scores: Literal["rank", "wins", "scores"] = Field(
        "rank",
        description="for losses of lists: ranks spread over [0, 1]; the share of rewards and opponents that a "
        "candidate beats; or the numbers of the one reward as they are",
    )
    list_pairs: Literal["best_worst", "all"] = Field(
        "best_worst",
        description="for losses of pairs on ranked lists: one pair of each list, or all that differ in rank",
    )
    cache: PathText | None = Field(None, description="folder of the latent and text caches; default: data.path/.cache")
    make: OwnSamples | None = None


class Optim(_Section):
    """AdamW and its schedule."""

    lr: Number = Field(1e-5, gt=0, description="learning rate; LoRA takes more than a full fine-tune")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    warmup_steps: NonNegative = Field(0, description="steps over which the rate rises from 0")
    weight_decay: Number = Field(1e-2, ge=0)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Number = Field(1e-8, gt=0)
    eight_bit: bool = Field(False, description="AdamW with 8-bit moments (bitsandbytes), a quarter of their memory")
    max_grad_norm: Number = Field(1.0, gt=0, description="longer gradients are shortened to this")


class Train(_Section):
    """The loop."""

    steps: Positive = Field(1000, description="optimiser steps")
    batch_size: Positive = Field(8, description="pairs per optimiser step, over all processes and accumulation")
    micro_batch_size: Positive | None = Field(None, description="pairs per forward and process; default: all at once")
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = Field(
        "bf16", description="of the forward; losses are float32 always. fp64 runs all in float64, to debug"
    )
    seed: NonNegative = Field(0, description="of order, noise, timesteps and new weights")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    distribution: Literal["auto", "fsdp2"] = Field(
        "auto", description="of several processes. auto: each holds the whole model; fsdp2: its weights are spread"
    )
    one_candidate_at_a_time: bool = Field(
        False, description="least memory, the same gradient, one more forward of the policy"
    )
    compile: bool = Field(False, description="torch.compile the denoiser: a slow first step, faster ones after it")
    channels_last: bool = Field(False, description="memory layout that convolutions of a UNet like on GPUs")
    ema: Number | None = Field(None, gt=0, lt=1, description="decay of the moving average that is saved")
    checkpoint_every: Positive = Field(200, description="steps between states that --resume goes on from")
    keep_checkpoints: Positive = Field(2, description="the newest so many")
    log_every: Positive = Field(1, description="steps between lines of metrics.jsonl")
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        ["tensorboard"], description="beside metrics.jsonl, which is always written"
    )


class Guard(_Section):
    """The collapse guard on the held-out preference evaluation."""

    action: Literal["warn", "stop"] = Field("warn", description="stop also restores the last good weights")
    error_rise: Number = Field(
        0.5,
        ge=0,
        description="chosen error above the reference's by this share of it, and by that many standard errors",
    )
    standard_errors: Number = Field(3.0, gt=0, description="how sure the rise must be")
    evaluations: Positive = Field(3, description="so many running before it speaks")
    saturated_share: Fraction = Field(0.95, description="of pairs beyond |logit| 10")
    grad_norm_factor: Number = Field(100.0, gt=1, description="above so many times the running median")


class Previews(_Section):
    """Sample grids while training: the same prompts and noise every time, sampled as evaluation.sampling says."""

    count: NonNegative = Field(4, description="images per grid; 0 is off")
    prompts: PathText | list[str] | None = Field(
        None, description="texts, or a file with a prompt a line; default: held-out prompts of the data"
    )
    every: Positive | None = Field(None, description="steps; default: evaluation.every")


class Evaluation(_Section):
    """Held-out preferences while training, and `mmpo eval` after it."""

    every: Positive = Field(100, description="steps between held-out evaluations")
    held_out_pairs: NonNegative = Field(256, description="kept from training by prompt, at most a fifth; 0 is none")
    draws: Positive = Field(2, description="noise draws per pair and timestep band")
    guard: Guard = Guard()
    previews: Previews = Previews()
    validation: Validation | None = Field(None, description="samples while training, scored, with alarms")
    prompts: PathText | None = Field(
        None, description="shapes/tune, shapes/test, a text file with a prompt a line, or a benchmark's prompts"
    )
    limit: Positive | None = Field(None, description="the first so many prompts")
    samples: Positive = Field(4, description="images per prompt")
    seed: NonNegative = Field(0, description="of the noise, the same for base and tuned")
    sampling: Sampling = Sampling()
    rewards: list[Reward] = Field([], description="names, or {name: ..., option: ...}")
    settings_tried: Positive | None = Field(
        None, description="how many settings were compared before this one; stands beside the scores"
    )


class Recipe(_Section):
    """One run. Precedence: command line > file > default."""

    model: Model
    data: Data = Field(description="stored preferences; with a rollout, where its rounds are kept")
    rollout: Rollout | None = Field(None, description="own samples, round after round, in place of stored data")
    method: Method = Method()
    optim: Optim = Optim()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    output: PathText = Field(description="folder of the run")
    push_to_hub: str | None = Field(None, description="USER/NAME to upload the weights and the model card to")

    @model_validator(mode="before")
    @classmethod
    def _rollouts_beside_the_run(cls, data: Any) -> Any:
        """With a rollout the data are its rounds, in the run's folder unless the recipe says where."""
        if not isinstance(data, dict) or data.get("rollout") is None or not isinstance(data.get("data") or {}, dict):
            return data
        return {**data, "data": {"path": f"{data.get('output')}/rollouts", **(data.get("data") or {})}}

    @model_validator(mode="after")
    def _check_rollout(self) -> Recipe:
        if self.rollout is not None:
            check_rollout(self)
        elif self.method.adapter == "transition":
            raise ValueError("method.adapter: transition takes steps of a sampler; give a rollout in place of data")
        elif online := [part.loss for part in self.method.parts if set(OF_ROLLOUTS) & set(feeds_of(part.entry))]:
            raise ValueError(
                f"method.loss: '{online[0]}' needs samples drawn from the policy during training; give a rollout in "
                "place of data"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Recipe:
        if self.method.reference == "adapters_off" and self.model.lora is None:
            raise ValueError(
                "method.reference: adapters_off needs model.lora; a full fine-tune changes the base weights, "
                "so use frozen_copy (or auto)"
            )
        starts = self.model.lora is not None and self.model.lora.start is not None
        if self.method.reference == "adapters_off" and starts:
            raise ValueError(
                "method.reference: adapters_off is the base without the LoRA of model.lora.start, which is not where "
                "the policy starts; use frozen_adapter (or auto)"
            )
        if self.method.reference == "frozen_adapter" and not starts:
            raise ValueError("method.reference: frozen_adapter needs a LoRA to start from; set model.lora.start")
        if self.model.quantize is not None and self.model.lora is None:
            raise ValueError("model.quantize: only the frozen base of a LoRA can be quantised; set model.lora")
        dropout = self.model.lora.dropout if self.model.lora is not None else 0.0
        if self.train.one_candidate_at_a_time and dropout:
            raise ValueError(
                f"train.one_candidate_at_a_time: forwards each candidate twice, and model.lora.dropout {dropout:g} "
                "would differ between the two; set it to 0"
            )
        predictions = [part.loss for part in self.method.parts if "chosen_drift" in part.entry.extra]
        if self.train.one_candidate_at_a_time and predictions:
            raise ValueError(
                f"train.one_candidate_at_a_time: loss '{predictions[0]}' needs whole predictions; leave it off"
            )
        if self.train.distribution == "fsdp2" and self.data.buckets:
            raise ValueError(
                "train.distribution: with fsdp2 all processes forward together, and data.buckets gives them unequal "
                "numbers of batches; turn one of them off"
            )
        if self.train.distribution == "fsdp2" and (self.method.offload_reference or self.model.quantize):
            raise ValueError(
                "train.distribution: fsdp2 spreads whole-precision weights and the reference's too; leave "
                "method.offload_reference and model.quantize off"
            )
        if self.data.list_pairs == "all" and self.method.takes_lists:
            raise ValueError(
                f"data.list_pairs: all makes pairs of the lists, and {self.method.name} takes lists whole; leave it out"
            )
        if self.data.list_pairs == "all" and self.method.columns:
            raise ValueError(
                f"data.list_pairs: {self.method.name} needs {next(iter(self.method.columns))} of each pair, and a "
                "ranked row has one value of it; leave list_pairs out"
            )
        micro = self.train.micro_batch_size
        other = [part.loss for part in self.method.parts if "mismatched_z0" in feeds_of(part.entry).values()]
        if other and (micro or self.train.batch_size) < 2:
            raise ValueError(
                f"train.{'batch_size' if micro is None else 'micro_batch_size'}: is 1, and loss '{other[0]}' compares "
                "with the prompts of other groups in a forward; raise it (diffusion_kto does without)"
            )
        if micro is not None and self.train.batch_size % micro:
            raise ValueError(
                f"train.micro_batch_size: {micro} does not divide train.batch_size {self.train.batch_size}"
            )
        if self.optim.warmup_steps and self.optim.schedule == "constant":
            raise ValueError("optim.warmup_steps: schedule 'constant' has no warm-up; use constant_with_warmup")
        return self


def check_rollout(recipe: Recipe) -> None:
    """Refuses what a rollout and the rest of a recipe cannot do together.

    Raises:
        ValueError: names the key and the fix.
    """
    data, method, train, rollout = recipe.data, recipe.method, recipe.train, recipe.rollout
    assert rollout is not None
    for key, about in type(data).model_fields.items():
        if key not in ("path", "resolution", "cache") and getattr(data, key) != about.default:
            raise ValueError(f"data.{key}: is of stored preferences; beside a rollout leave it out")
    if method.adapter not in ("auto", "transition"):
        raise ValueError(f"method.adapter: '{method.adapter}' is for stored images; a rollout takes transition (auto)")
    for key in ("error", "noise", "prompt_dropout", "cache_reference", "beta_convention"):
        if getattr(method, key) != type(method).model_fields[key].default:
            raise ValueError(f"method.{key}: does not apply to the steps of a sampler; leave it out")
    for part in method.parts:
        if part.entry.family == "point" or method.columns or {"chosen_drift", "gold_nll"} & set(part.entry.extra):
            raise ValueError(f"method: '{part.loss}' cannot be fed from a rollout; use d3po or another loss of pairs")
        if part.entry.family == "list" and rollout.kind == "step_wise":
            raise ValueError(f"method: step_wise stores best and worst, and '{part.loss}' takes lists; use clipped_dpo")
        missing = [name for name in part.entry.options if name == "beta" and name not in (part.model_extra or {})]
        if missing:
            raise ValueError(f"method.beta: has no default for a rollout; D3PO has 0.1, SPO 10 ('{part.loss}')")
    if rollout.refresh_reference is not None and method.reference == "adapters_off":
        raise ValueError("rollout.refresh_reference: adapters_off is the base for good; leave method.reference out")
    if train.distribution == "fsdp2" or train.one_candidate_at_a_time:
        raise ValueError("train: fsdp2 and one_candidate_at_a_time are not for rollouts yet; leave them out")
