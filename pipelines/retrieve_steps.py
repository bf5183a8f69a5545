"""The steps of the retrieval pipeline that need a model, each a callable that can be replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mmpo.data.retrieval_accept import Similarity, words_cosine
from mmpo.data.retrieval_masks import Spans, content_spans, sentence_spans, spans_of_masked
from mmpo.models.vlm_vision import pooled_image
from mmpo.retrieve_recipe import RetrieveRecipe
from pipelines.respond import local_device
from pipelines.retrieve_index import Embed
from rewards.question import Question, filled
from rewards.vlm_model import VlmModel
from rewards.vlm_sampling import Answer, Draws, sampled_answers

COMPLETE = (
    "{question}\n\nBelow is an answer to this question in which words are missing. Fill each [MASK] with words that "
    "fit the image, keep all other words as they are, and write the filled answer alone.\n\n{masked}"
)
MASKING = (
    "{question}\n\nBelow is an answer to this question. Replace each object, each attribute and each relation that it "
    "reports of the image by [MASK], keep all other words as they are, and write nothing else.\n\n{answer}"
)


@dataclass(frozen=True)
class ToMask:
    """An answer whose words of content are looked for."""

    question: str
    answer: str
    image: Image.Image


@dataclass(frozen=True)
class ToComplete:
    """A masked answer and the image to complete it with; the seed is of both."""

    question: str
    masked: str
    image: Image.Image
    seed: int


@dataclass(frozen=True)
class Steps:
    """What a run calls. Each may be a model, an API or a stub.

    Args:
        embed: an image -> [D] features.
        find_spans: an answer -> characters to mask; ValueError where it cannot say.
        complete: masked answers with images -> completions; one with `error` is taken for empty.
        similarity: texts and texts -> cosines.
        fault: a text -> why the model cannot be asked with it, or None.
        identity: what the steps are, by name: a folder belongs to them.
    """

    embed: Embed
    find_spans: Callable[[ToMask], Spans]
    complete: Callable[[Sequence[ToComplete]], Sequence[Answer]]
    similarity: Similarity
    fault: Callable[[str], str | None] = lambda text: None
    identity: Mapping[str, str] = field(default_factory=dict)


def default_steps(recipe: RetrieveRecipe) -> Steps:
    """The recipe's own: one model embeds, completes and, by choice, masks.

    Raises:
        ValueError: a model that cannot be loaded.
    """
    from mmpo.models.quiet import quiet_transformers
    from mmpo.models.vlm import load_vlm
    from rewards.devices import device_of, dtype_of

    model, settings = recipe.model, recipe.retrieval
    device = device_of(local_device(model.device))
    with quiet_transformers():
        loaded = load_vlm(model.path, revision=model.revision, dtype=dtype_of(model.dtype), device=device)
    vlm = VlmModel(loaded.model, loaded.processor, device=device)
    draws = Draws(settings.temperature, settings.top_p, settings.max_new_tokens)

    def complete(asked: Sequence[ToComplete]) -> list[Answer]:
        said = [filled(COMPLETE, {"question": one.question, "masked": one.masked}) for one in asked]
        questions = [Question((one.image, text)) for one, text in zip(asked, said, strict=True)]
        return [found[0] for found in sampled_answers(vlm, questions, [one.seed for one in asked], draws)]

    words = settings.similarity == "words"
    from pipelines.retrieve_similarity import TextEncoder

    return Steps(
        embed=lambda image: pooled_image(loaded.model, loaded.processor, image),
        find_spans=word_spans if settings.mask == "words" else model_spans(vlm, settings.max_new_tokens),
        complete=complete,
        similarity=words_cosine if words else TextEncoder(settings.similarity, device=device),
        fault=vlm.inputs.fault,
    )


def word_spans(row: ToMask) -> Spans:
    """By the built-in list of English words that are no content."""
    return content_spans(row.answer)


def model_spans(vlm: VlmModel, tokens: int) -> Callable[[ToMask], Spans]:
    """The model is asked, greedily, to write the answer with masks; what it changes besides is refused."""

    def spans(row: ToMask) -> Spans:
        asked = filled(MASKING, {"question": row.question, "answer": row.answer})
        (said,), (fault,) = vlm.answers([Question((row.image, asked))], tokens=tokens)
        if said is None:
            raise ValueError(fault or "the model said nothing")
        return spans_of_masked(row.answer, said)

    return spans


def widened(spans: Spans, answer: str, unit: str) -> Spans:
    """The spans, or the sentences that hold them."""
    return sentence_spans(answer, spans) if unit == "sentence" else spans


def completion_settings(recipe: RetrieveRecipe) -> dict[str, Any]:
    """What a completion depends on besides model and image, for its provenance."""
    drawn = recipe.retrieval
    return {name: getattr(drawn, name) for name in ("temperature", "top_p", "max_new_tokens", "seed", "mask", "tau")}
