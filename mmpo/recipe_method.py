"""The recipe's `method`: loss x log-likelihood x reference, or a sum of several losses. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from mmpo.beta import convert
from mmpo.data.extra_columns import ExtraColumn
from mmpo.loss_entry import LossEntry, Value
from mmpo.loss_feeds import GIVEN, columns_of, feeds_of, given_fault, untrainable
from mmpo.loss_names import resolve
from mmpo.loss_table import LOSS_TABLE
from mmpo.recipe_section import Fraction, NonNegative, Number, _Section
from mmpo.suggest import one_of


class Term(_Section):
    """One loss of several. Its own options stand beside its name."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    loss: str = Field(description="`mmpo losses` lists them")
    weight: Number = Field(1.0, gt=0, description="multiplies this loss")

    @field_validator("loss")
    @classmethod
    def _known(cls, name: str) -> str:
        """The name in the table; an alias is written out, a name of several papers answers with the choices."""
        return resolve(name, LOSS_TABLE)

    @model_validator(mode="after")
    def _check_loss(self) -> Term:
        check_options(self.loss, self.model_extra or {}, list(type(self).model_fields))
        return self

    @property
    def entry(self) -> LossEntry:
        """The loss's row of the table."""
        return LOSS_TABLE[self.loss]

    @property
    def options(self) -> dict[str, Value]:
        """The loss's options as given, defaults of the surrogate filled in; β still in `beta_convention`."""
        given = self.model_extra or {}
        return {name: o.read(given.get(name, o.surrogate)) for name, o in self.entry.options.items()}

    def converted(self, convention: str, elements: int) -> dict[str, Value]:
        """The options as the loss takes them: what the recipe states is in `convention`, a default in ours.

        Args:
            convention: the method's `beta_convention`.
            elements: C·H·W of one latent.
        """
        stated = {name: value for name, value in self.options.items() if name in (self.model_extra or {})}
        return self.options | convert(stated, self.entry.options, convention, elements)

    @property
    def given(self) -> dict[str, tuple[float, ...]]:
        """Lists of numbers that the recipe itself gives the loss."""
        extra = self.model_extra or {}
        return {name: tuple(map(float, extra[name])) for name in GIVEN if name in self.entry.extra}


def check_options(loss: str, given: dict[str, Any], others: list[str]) -> None:
    """Refuses a loss that recipes cannot train with, and options that it lacks or that make no sense.

    Args:
        loss: name in the table.
        given: the keys beside it that are none of the section's own.
        others: the section's own keys, for a message.
    Raises:
        ValueError: names the option, what was expected and what came.
    """
    entry = LOSS_TABLE[loss]
    reason = untrainable(entry)
    if reason:
        raise ValueError(f"loss: '{loss}' {reason}; `mmpo losses {loss}` says more")
    lists = [name for name in GIVEN if name in entry.extra]
    for name in lists:
        fault = given_fault(name, given.get(name))
        if fault:
            raise ValueError(f"{name}: loss '{loss}' takes {entry.extra[name]}; {fault}")
    for name, value in given.items():
        if name in lists:
            continue
        option = entry.options.get(name)
        if option is None:
            raise ValueError(
                f"{name}: not an option of loss '{loss}'; {one_of(name, [*entry.options, *lists, *others])}"
            )
        fault = option.fault(value)
        if option.tokens_only and value != option.surrogate:
            fault = f"is for log-likelihoods of tokens; leave it at {str(option.surrogate).lower()}"
        if fault:
            raise ValueError(f"{name}: {fault}")


def _refuse_unlike_columns(parts: Sequence[Term]) -> None:
    seen: dict[str, tuple[str, ExtraColumn]] = {}
    for part in parts:
        for name, column in columns_of(part.entry, part.given).items():
            first, other = seen.setdefault(name, (part.loss, column))
            if other != column:
                raise ValueError(
                    f"terms: '{first}' and '{part.loss}' want the column {name} in two ways; give both as many weights"
                )


class Method(_Section):
    """Loss x log-likelihood x reference. The loss's own options stand beside its name."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    loss: str | None = Field("dpo", description="`mmpo losses` lists them")
    weight: Number = Field(1.0, gt=0, description="multiplies the loss")
    terms: list[Term] = Field(
        [], description="several losses in place of one, added up: [{loss: dpo, beta: 2000}, {loss: sft, weight: 0.1}]"
    )
    adapter: Literal["auto", "denoising", "flow", "transition"] = Field(
        "auto", description="auto goes by the checkpoint; transition: the steps of a rollout"
    )
    reference: Literal["auto", "adapters_off", "frozen_adapter", "frozen_copy"] = Field(
        "auto",
        description="adapters_off: a LoRA's base; frozen_adapter: the LoRA it starts from; frozen_copy: a second model",
    )
    cache_reference: NonNegative = Field(
        0,
        description="N: the reference's log-likelihoods of N draws per group are computed once and kept, and draws "
        "repeat after N visits; a full fine-tune then needs no second model. 0: computed live",
    )
    offload_reference: bool = Field(
        False, description="a frozen copy waits in CPU memory between forwards: less GPU memory, more time"
    )
    beta_convention: Literal["half_mean", "mean", "half_sum"] = Field(
        "half_mean", description="half_mean: official Diffusion-DPO; mean: diffusers' scripts; half_sum: summed errors"
    )
    error: Literal["prediction", "epsilon"] = Field(
        "prediction", description="space of the squared error; epsilon converts a v-prediction first"
    )
    noise: Literal["shared", "per_candidate"] = Field(
        "shared",
        description="one noise for all candidates of a group, or one each, as in RankDPO's paper; the timestep is one",
    )
    prompt_dropout: Fraction = Field(0.0, description="share of pairs trained with the empty prompt")
    timesteps: tuple[Fraction, Fraction] = Field((0.0, 1.0), description="range of noise levels, 0 clean, 1 noise")

    @model_validator(mode="before")
    @classmethod
    def _no_loss_beside_terms(cls, data: Any) -> Any:
        """With terms there is no default loss."""
        if isinstance(data, dict) and data.get("terms") and "loss" not in data:
            return {**data, "loss": None}
        return data

    @field_validator("loss")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return name if name is None else resolve(name, LOSS_TABLE)

    @model_validator(mode="after")
    def _check_method(self) -> Method:
        extra = dict(self.model_extra or {})
        if self.loss is not None and self.terms:
            raise ValueError(
                f"terms: stands in place of loss; move '{self.loss}' and its options into a term, and set loss to null"
            )
        if self.loss is None and not self.terms:
            raise ValueError("loss: is null and there are no terms; name a loss")
        if self.loss is not None:
            check_options(self.loss, extra, list(type(self).model_fields))
        elif extra:
            raise ValueError(f"{next(iter(extra))}: options stand beside the loss that they belong to, inside its term")
        points = [part.loss for part in self.parts if part.entry.family == "point"]
        if points and self.takes_lists:
            raise ValueError(
                f"terms: '{points[0]}' takes the two of a pair one by one, and another loss of {self.name} takes "
                "lists; drop one of them"
            )
        _refuse_unlike_columns(self.parts)
        if self.beta_convention != "half_mean" and not any(
            option.per_logp for part in self.parts for option in part.entry.options.values()
        ):
            raise ValueError(
                f"beta_convention: {self.name} has no option that is stated per log-likelihood, so none to convert"
            )
        live = [p.loss for p in self.parts if {"chosen_drift", "mismatched_z0"} & set(feeds_of(p.entry).values())]
        if self.cache_reference and live:
            raise ValueError(f"cache_reference: loss '{live[0]}' asks the reference for more than that; set it to 0")
        if self.offload_reference and self.reference not in ("auto", "frozen_copy"):
            raise ValueError(f"offload_reference: reference {self.reference} holds no second model; leave it off")
        if self.timesteps[0] >= self.timesteps[1]:
            raise ValueError(f"timesteps: expected [low, high] with low < high, got {list(self.timesteps)}")
        return self

    @property
    def parts(self) -> tuple[Term, ...]:
        """The losses whose weighted sum is minimised: `terms`, or the one loss."""
        if self.loss is None:
            return tuple(self.terms)
        return (Term.model_validate({"loss": self.loss, **(self.model_extra or {})}),)

    @property
    def name(self) -> str:
        """The loss's name, or those of the terms: "dpo + sft"."""
        return " + ".join(part.loss for part in self.parts)

    @property
    def options(self) -> dict[str, Value]:
        """The options of the one loss, or of the first term."""
        return self.parts[0].options

    @property
    def needs_reference(self) -> bool:
        """Whether any of the losses compares with a reference."""
        return any(part.entry.needs_reference for part in self.parts)

    @property
    def fewest(self) -> int:
        """How many candidates a group must have: all of a ranked row's where a loss takes more than a pair, else 2."""
        return 3 if any("gold_nll" in part.entry.extra for part in self.parts) else 2

    @property
    def takes_lists(self) -> bool:
        """Whether ranked rows are read whole, and not their best and worst alone."""
        return self.fewest > 2 or any(part.entry.family == "list" for part in self.parts)

    @property
    def columns(self) -> dict[str, ExtraColumn]:
        """The columns that the losses need beside candidates, by name."""
        return {name: column for part in self.parts for name, column in columns_of(part.entry, part.given).items()}
