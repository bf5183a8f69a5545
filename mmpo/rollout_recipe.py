"""The recipe's `rollout`: samples of the policy itself, round after round, in place of stored data. No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from mmpo.recipe_section import Fraction, NonNegative, Number, PathText, Positive, _Section

OF_KINDS = (
    ("start", "trajectories"),
    ("train_steps", "trajectories"),
    *((name, "step_wise") for name in ("first_step", "inner_steps", "threshold", "score_scale")),
)
"""Keys that only one kind of rollout has."""


class RewardSpec(_Section):
    """A reward by name, with its options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """What is passed to `rewards.load(name, **options)`."""
        return dict(self.model_extra or {})


Reward = Annotated[RewardSpec, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)]


class RolloutSampling(_Section):
    """How the policy is sampled for training. The same guidance holds in the training forwards."""

    steps: Positive = Field(20, description="denoising steps")
    guidance: Number = Field(5.0, ge=0, description="classifier-free guidance scale; 1 is off")
    eta: Number | None = Field(
        None,
        ge=0,
        description="noise of the sampler: DDIM's η (default 1, DDPM) or a flow's a (default 0.7). 0 is an ODE, which "
        "has no densities to train on",
    )
    batch_size: Positive = Field(
        8, description="images at once, of which guidance makes two in a forward; they do not depend on it"
    )


class Rollout(_Section):
    """Own samples: prompts are sampled, scored and trained on, then the next round begins with the new policy."""

    prompts: PathText = Field(description="shapes/train, or a text file with a prompt a line")
    limit: Positive | None = Field(None, description="use the first so many prompts")
    prompts_per_round: Positive = Field(32, description="the next so many, over all processes; seeded order")
    candidates: int = Field(4, ge=2, description="per prompt (trajectories), or per step (step_wise)")
    kind: Literal["trajectories", "step_wise"] = Field(
        "trajectories",
        description="trajectories: whole ones, compared by their images, the verdict holds for every step (D3PO). "
        "step_wise: candidates of each step from one state, compared by what they promise (SPO)",
    )
    start: Literal["shared", "own"] = Field(
        "shared", description="of trajectories: one starting noise for a prompt's candidates, or one each"
    )
    sampling: RolloutSampling = RolloutSampling()
    rewards: list[Reward] = Field(
        [], description="what decides; several: by Pareto dominance, else a tie. Empty: votes, see labels"
    )
    labels: Literal["rewards", "votes"] = Field(
        "rewards", description="votes: each round stops for `mmpo vote`, and `mmpo train --resume` goes on"
    )
    votes: PathText | None = Field(
        None, description="what `mmpo vote` wrote, for labels: votes; default: the folder `votes` of each round"
    )
    density: Literal["mean", "sum"] = Field(
        "mean", description="of a step's log-density over the latent's dimensions; the sources take the mean"
    )
    train_steps: Positive | None = Field(
        None, description="so many steps of each trajectory are trained, drawn by seed; default: all"
    )
    first_step: NonNegative = Field(4, description="step_wise: steps before the first comparison")
    inner_steps: Positive = Field(1, description="step_wise: steps that branches go on their own (SPO for SDXL: 4)")
    threshold: Fraction | tuple[Fraction, Fraction] = Field(
        0.0,
        description="step_wise: kept where p(best) − p(worst) is above this; [low, high] rises with the step's noise",
    )
    score_scale: Number = Field(
        1.0, gt=0, description="step_wise: multiplies scores before p = softmax; 1 for PickScore and its kind"
    )
    passes: Positive = Field(1, description="over a round's groups before the next round")
    refresh_reference: Positive | None = Field(
        None, description="rounds after which the reference becomes the policy; default: it stays what it was"
    )
    on_bad_reward: Literal["skip", "error"] = Field(
        "error", description="a reward that fails: skip leaves its prompt out, counted and named"
    )
    keep_rounds: Positive = Field(
        2, description="stored rounds that stay on disk, the newest, and those of checkpoints; with votes all do"
    )
    stored: PathText | None = Field(
        None, description="rollouts of another run of the same checkpoint (its folder `rollouts`), in place of sampling"
    )

    @model_validator(mode="after")
    def _check_rollout(self) -> Rollout:
        if self.sampling.eta == 0:
            raise ValueError(
                "sampling.eta: 0 makes the sampler an ODE, whose steps have no density to train on; use above 0 (1 for "
                "diffusion, 0.7 for flow), or train on stored pairs (data in place of rollout)"
            )
        if self.labels == "rewards" and not self.rewards:
            raise ValueError("rewards: name what decides between candidates, or set labels: votes")
        if self.labels == "votes" and (self.rewards or self.kind == "step_wise"):
            raise ValueError("labels: votes are for whole trajectories, without rewards; leave rewards and kind out")
        if self.votes is not None and self.labels != "votes":
            raise ValueError("votes: is for labels: votes; set that, or leave votes out")
        if self.kind == "step_wise" and len(self.rewards) > 1:
            raise ValueError("rewards: step_wise compares by one reward; several can be one ensemble")
        if self.kind == "step_wise" and self.first_step >= self.sampling.steps:
            raise ValueError(
                f"first_step: {self.first_step} leaves no step of {self.sampling.steps} to compare; lower it"
            )
        if isinstance(self.threshold, tuple) and self.threshold[0] > self.threshold[1]:
            raise ValueError(f"threshold: expected [low, high], got {list(self.threshold)}")
        for name, kind in OF_KINDS:
            if self.kind != kind and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is for kind: {kind}; leave it out")
        return self
