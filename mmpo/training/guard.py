"""The collapse guard: known ways in which preference training goes wrong, seen on held-out pairs and gradients."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any, NamedTuple

from mmpo.recipe import Guard
from mmpo.training.heldout import HeldOut

WINDOW = 100
WARM = 20
LEAST_PROMPTS = 10  # below, a standard error says nothing


class Words(NamedTuple):
    """How the guard says that the chosen side got worse.

    Args:
        worse: with `{rise}`, the share by which it did.
        remedy: what to try besides.
    """

    worse: str
    remedy: str


OF_IMAGES = Words("the chosen images are denoised {rise} worse than by the reference", "try loss minor_dpo")
OF_ANSWERS = Words(
    "the chosen answers' negative log-likelihood is {rise} above the reference's", "add a term of anchor or sft"
)


class CollapseGuard:
    """Watches held-out evaluations and gradient norms, and says in one sentence what is wrong.

    Args:
        settings: thresholds and what to do.
        words: for what is trained on.
    """

    def __init__(self, settings: Guard, words: Words = OF_IMAGES) -> None:
        self._settings, self._words = settings, words
        self._above = 0
        self._norms: deque[float] = deque(maxlen=WINDOW)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"above": self._above, "norms": list(self._norms)}

    def restore(self, state: dict[str, Any]) -> None:
        """Puts `state` back."""
        self._above = state["above"]
        self._norms = deque(state["norms"], maxlen=WINDOW)

    def see_gradient(self, norm: float) -> str | None:
        """Judges one step's gradient norm (before clipping) against the running median."""
        if not math.isfinite(norm):
            return f"the gradient norm is {norm} and the step was not applied; lower optim.lr or use bf16 or fp32"
        verdict = None
        if len(self._norms) >= WARM:
            median = statistics.median(self._norms)
            if norm > self._settings.grad_norm_factor * median > 0:
                verdict = (
                    f"the gradient norm {norm:.3g} is {norm / median:.0f} times its running median; "
                    "lower optim.lr or raise optim.warmup_steps"
                )
        self._norms.append(norm)
        return verdict

    def see_evaluation(self, result: HeldOut) -> tuple[bool, str | None]:
        """(healthy, sentence or None): whether these weights are worth going back to, and what is wrong."""
        if result.broken:
            return False, (
                f"{result.broken} of {result.pairs} held-out pairs have a log-likelihood that is not finite: the "
                "weights are broken; lower optim.lr or use bf16 or fp32"
            )
        error, limit = result.chosen_error, self._settings.standard_errors
        enough = result.prompts is None or result.prompts >= LEAST_PROMPTS
        sure = enough and error.mean > limit * error.standard_error
        above = sure and result.rise > self._settings.error_rise
        self._above = self._above + 1 if above else 0
        saturated = result.saturated >= self._settings.saturated_share > 0
        if self._above >= self._settings.evaluations:
            return False, (
                f"{self._words.worse.format(rise=f'{result.rise:.0%}')}, in {self._above} evaluations running "
                f"(error {error.mean:+.2e}, {error.mean / max(error.standard_error, 1e-12):.1f} "
                "standard errors): the policy lowers both sides; stop earlier, lower optim.lr, raise method.beta, or "
                f"{self._words.remedy}"
            )
        if saturated:
            return False, (
                f"{result.saturated:.0%} of held-out pairs have a logit beyond 10: the loss has no gradient left; "
                "lower method.beta or stop earlier"
            )
        return not above, None
