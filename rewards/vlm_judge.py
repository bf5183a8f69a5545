"""A vision-language model as judge: rates candidates aspect by aspect, or says which of two is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewards.fit_within import FitWithin
from rewards.judge_backend import Backend, Reply, ReplyFile, ask_all
from rewards.judge_http import HttpBackend
from rewards.judge_local import LocalBackend
from rewards.judge_pairs import compared
from rewards.judge_parsing import parse_ratings
from rewards.judge_prompts import ANSWER_ASPECTS, IMAGE_ASPECTS, rating_question
from rewards.question import Question
from rewards.scores import Candidate, Comparison, Scores
from rewards.staged import score_by_views

ASPECTS = tuple(dict.fromkeys([*IMAGE_ASPECTS, *ANSWER_ASPECTS]))


class VLMJudge:
    """Mean of a judge's ratings from 1 to 5; it also compares candidates by twos. The parts are the aspects, those of
    images where a batch holds images, those of answers where it holds answers.

    An image is rated for prompt_following, aesthetic, fidelity and harmlessness, VisionPrefer's four; a text answer to
    a question about an image for correctness, faithfulness, helpfulness and harmlessness. A reply that cannot be read,
    or that leaves the scale, is a failed row with the reply in its error.

    Args:
        weights: of a local model; there is none where `url` is given.
        url: base of an OpenAI-compatible endpoint, such as http://localhost:8000/v1.
        aspects: those to rate, by name; default: all of the candidate's kind.
        cache: folder in which replies are kept by the hash of what was asked, so that a run that was killed asks, and
            pays, only for what is new. Replies that cannot be read are kept too.
        side: longest side of the images that the judge sees, in pixels.
        batch_size: rows at once.
        revision, device, dtype, tokens: of the local model, see `rewards.judge_local.LocalBackend`.
        model, key_variable, request, concurrency, timeout, tries, backoff: see `rewards.judge_http.HttpBackend`.
    Raises:
        ValueError: options that do not go together, unknown aspects, or what the backend refuses.
    References:
        Wu et al., Multimodal Large Language Models Make Text-to-Image Generative Models Align Better, arXiv
        2404.15100: the aspects of images. The wording is ours.
    """

    name = "vlm_judge"

    def __init__(
        self,
        weights: str | None = None,
        url: str | None = None,
        aspects: Sequence[str] | None = None,
        cache: str | None = None,
        side: int = 1024,
        batch_size: int = 16,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        tokens: int | None = None,
        model: str | None = None,
        key_variable: str | None = None,
        request: Mapping[str, Any] | None = None,
        concurrency: int | None = None,
        timeout: float | None = None,
        tries: int | None = None,
        backoff: float | None = None,
    ) -> None:
        self._aspects = _checked(aspects)
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise ValueError(f"side: expected pixels, a whole number from 1 on, got {side!r}")
        local = {"weights": weights, "revision": revision, "device": device, "dtype": dtype, "tokens": tokens}
        http: dict[str, Any] = {
            "model": model,
            "key_variable": key_variable,
            "request": request,
            "concurrency": concurrency,
        }
        http |= {"timeout": timeout, "tries": tries, "backoff": backoff}
        self._backend = _backend(url, _given(local), _given(http), batch_size)
        self._kept = ReplyFile(cache) if cache is not None else None
        self.view, self.batch_size = FitWithin(side), batch_size

    @property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        return {**self._backend.identity, "view": repr(self.view), "aspects": ", ".join(self._aspects)}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        errors = [self._fault(*row) for row in zip(prompts, responses, strict=True)]
        rows = [row for row, error in enumerate(errors) if error is None]
        asked = [rating_question(prompts[r], views[r], responses[r], self._wanted(responses[r])) for r in rows]
        kinds = [self._wanted(answer) for answer in responses]
        wanted = [name for name in self._aspects if any(name in kind for kind in kinds)]
        parts = {name: np.full(len(prompts), np.nan, np.float32) for name in wanted}
        values = np.full(len(prompts), np.nan, np.float32)
        for row, reply in zip(rows, self._ask(asked), strict=True):
            try:
                ratings = _read(reply, list(self._wanted(responses[row])))
            except ValueError as error:
                errors[row] = str(error)
                continue
            for name, rating in ratings.items():
                parts[name][row] = rating
            values[row] = sum(ratings.values()) / len(ratings)
        return Scores(values, errors, parts)

    def compare(self, first: Sequence[Candidate], second: Sequence[Candidate], prompts: Sequence[str]) -> Comparison:
        """See `rewards.scores.Judge.compare`; each pair is asked in both orders, a verdict that turns is a tie."""
        if not len(first) == len(second) == len(prompts):
            counts = f"{len(first)} and {len(second)} candidates, {len(prompts)} prompts"
            raise ValueError(f"{self.name}: {counts}; give one of each a row")
        starts = range(0, len(prompts), self.batch_size)
        ends = [slice(start, start + self.batch_size) for start in starts]
        batches = [compared(self._ask, self.view, first[part], second[part], prompts[part]) for part in ends]
        if not batches:
            return Comparison(np.empty(0, np.float32), [], np.empty(0, bool))
        return Comparison(
            np.concatenate([batch.values for batch in batches]),
            [error for batch in batches for error in batch.errors],
            np.concatenate([batch.consistent for batch in batches]),
        )

    def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        return ask_all(self._backend, questions, self._kept)

    def _wanted(self, answer: str | None) -> dict[str, str]:
        """The aspects to rate of a candidate of this kind, and what they mean."""
        table = IMAGE_ASPECTS if answer is None else ANSWER_ASPECTS
        return {name: meaning for name, meaning in table.items() if name in self._aspects}

    def _fault(self, prompt: str, answer: str | None) -> str | None:
        if not prompt.strip() or (answer is not None and not answer.strip()):
            return "the text is empty; nothing to judge by"
        if not self._wanted(answer):
            kind = "an image" if answer is None else "an answer"
            return f"none of the aspects {', '.join(self._aspects)} is one of {kind}"
        return None


def _read(reply: Reply, aspects: list[str]) -> dict[str, float]:
    if reply.text is None:
        raise ValueError(reply.error)
    return parse_ratings(reply.text, aspects)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _backend(url: str | None, local: dict[str, Any], http: dict[str, Any], batch_size: int) -> Backend:
    if url is not None and local:
        raise ValueError(f"{', '.join(local)}: of a local judge, and url is given; leave one of them out")
    if url is not None:
        return HttpBackend(url, **{"model": "", **http})
    if http:
        raise ValueError(f"{', '.join(http)}: of an endpoint, and no url is given; add it, or leave them out")
    if "weights" not in local:
        raise ValueError("weights or url: say who judges, a model on this machine or an OpenAI-compatible endpoint")
    return LocalBackend(**local, batch_size=batch_size)


def _checked(aspects: Sequence[str] | None) -> tuple[str, ...]:
    if aspects is None:
        return ASPECTS
    wrong = [name for name in aspects if name not in ASPECTS]
    if wrong or not aspects or isinstance(aspects, str):
        raise ValueError(f"aspects: expected a list of some of {', '.join(ASPECTS)}, got {aspects!r}")
    return tuple(dict.fromkeys(aspects))
