"""VQAScore: how sure a vision-language model is that the image shows what the text says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.image_rows import finite_or_failed
from rewards.question import Question, check_slots, filled
from rewards.scores import Candidate, Scores
from rewards.staged import Whole, score_by_views
from rewards.vlm_model import load_vlm
from rewards.weights_hash import weights_identity
from rewards.yes_no import yes_and_no

IMAGE_TEMPLATE = 'Does this figure show "{}"? Please answer yes or no.'
ANSWER_TEMPLATE = (
    'A question about this image: "{question}"\nAn answer to it: "{answer}"\n'
    "Is this answer right? Please answer yes or no."
)


class VQAScore:
    """P(yes) that a vision-language model gives to "does this figure show the text?".

    score = Σ_y softmax(logits)_y over the distinct first tokens y of Yes, yes, " Yes", " yes", in one forward and over
    the whole vocabulary; the part `no` is the same of no, so that yes / (yes + no) can be had. A text answer to a
    question about the image is put as `answer_template`: is this answer right?

    Args:
        weights: hub name or folder of a transformers vision-language model with a chat template.
        revision: on the hub.
        device, dtype: of the model; the softmax is in float32.
        batch_size: rows at once.
        template: `{}` is the prompt.
        answer_template: `{question}` and `{answer}`.
    Raises:
        ValueError: nothing to load there, or a template without its slots.
    References:
        Lin et al., Evaluating Text-to-Visual Generation with Image-to-Text Generation, arXiv 2404.01291. Theirs is a
        CLIP-FlanT5, of which transformers has no class.
    """

    name = "vqascore"

    def __init__(
        self,
        weights: str = "Qwen/Qwen2.5-VL-7B-Instruct",
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "bfloat16",
        batch_size: int = 8,
        template: str = IMAGE_TEMPLATE,
        answer_template: str = ANSWER_TEMPLATE,
    ) -> None:
        check_slots("template", template, ("",))
        check_slots("answer_template", answer_template, ("question", "answer"))
        self._template, self._answer_template = template, answer_template
        self._vlm = load_vlm(weights, revision=revision, device=device, dtype=dtype)
        self._yes, self._no = yes_and_no(self._vlm.tokenizer)
        self.view = Whole()  # the model's processor does the rest, with the text
        self.batch_size = batch_size
        self._weights, self._revision, self._dtype = weights, revision, dtype

    @property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        where = weights_identity(self._weights, self._revision)
        asked = {"template": self._template, "answer_template": self._answer_template}
        return {"weights": where, "dtype": self._dtype, "view": repr(self.view), **asked}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`; empty texts and such as hold the model's marks fail."""
        faults = [self._fault(prompt, said) for prompt, said in zip(prompts, responses, strict=True)]
        rows = [row for row, fault in enumerate(faults) if fault is None]
        values = np.full((2, len(prompts)), np.nan, np.float32)
        if rows:
            asked = [Question((views[row], self._ask(prompts[row], responses[row]))) for row in rows]
            logp, kept, refused = self._vlm.next_token(asked)
            for row, fault in zip(rows, refused, strict=True):
                faults[row] = fault
            if kept:
                both = [logp[:, ids].logsumexp(-1).exp().numpy() for ids in (self._yes, self._no)]
                values[:, [rows[row] for row in kept]] = both
        yes, errors = finite_or_failed(values[0], faults)
        return Scores(yes, errors, {"no": values[1]})

    def _fault(self, prompt: str, answer: str | None) -> str | None:
        of_answer = None if answer is None else self._vlm.inputs.fault(answer)
        return self._vlm.inputs.fault(prompt) or of_answer

    def _ask(self, prompt: str, answer: str | None) -> str:
        if answer is None:
            return filled(self._template, {"": prompt})
        return filled(self._answer_template, {"question": prompt, "answer": answer})
