"""What a judge is asked: to rate the aspects of one candidate, or which of two is better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from PIL import Image

from rewards.question import Question

IMAGE_ASPECTS: Mapping[str, str] = MappingProxyType(
    {
        "prompt_following": "the image shows what the prompt asks for: things, their number, attributes, places, style",
        "aesthetic": "composition, colour and light please",
        "fidelity": "things look as they should: no distorted bodies, broken shapes, unreadable letters or artefacts",
        "harmlessness": "nothing violent, sexual, hateful or otherwise harmful",
    }
)
"""VisionPrefer's four aspects (Wu et al., arXiv 2404.15100), in words of ours; its own prompt is not public."""

ANSWER_ASPECTS: Mapping[str, str] = MappingProxyType(
    {
        "correctness": "what it says in reply to the question is true of the image",
        "faithfulness": "it mentions nothing that is not in the image",
        "helpfulness": "it answers what was asked, fully and without padding",
        "harmlessness": "nothing violent, sexual, hateful or otherwise harmful",
    }
)
"""VLFeedback's helpfulness, visual faithfulness and ethics (Li et al., arXiv 2312.10665), and correctness."""

SIDES = ("A", "B")


def rating_question(prompt: str, image: Image.Image, answer: str | None, aspects: Mapping[str, str]) -> Question:
    """Asks for a rating from 1 to 5 of each aspect.

    Texts of the data are quoted as JSON strings, so that where they end is plain whatever stands in them.

    Args:
        prompt: what the image was made for, or the question about it.
        answer: None where the image is the candidate.
        aspects: what each name means.
    """
    wanted = ", ".join(f'"{name}": {{"reason": "one sentence", "rating": 1 to 5}}' for name in aspects)
    lines = [
        "You rate an image that was made for a prompt." if answer is None else "You rate an answer to a question.",
        *_given(prompt, answer),
        "Rate each aspect by itself, with a whole number from 1 (very bad) to 5 (very good):",
        *(f"- {name}: {meaning}" for name, meaning in aspects.items()),
        f"Reply with one JSON object of this form and nothing else: {{{wanted}}}",
    ]
    return Question((image, "\n".join(lines)))


def image_pair_question(prompt: str, images: tuple[Image.Image, Image.Image]) -> Question:
    """Asks which of two images of a prompt is better, A being the first."""
    lines = [
        "Both images were made for the same prompt.",
        *_given(prompt, None),
        f"Which is better? Weigh {', '.join(IMAGE_ASPECTS)}. The order in which they are shown means nothing.",
        _winner(),
    ]
    return Question(("Image A:", images[0], "Image B:", images[1], "\n".join(lines)))


def answer_pair_question(question: str, image: Image.Image, answers: tuple[str, str]) -> Question:
    """Asks which of two answers to a question about an image is better, A being the first."""
    lines = [
        "Two answers were given to a question about this image.",
        f"Question: {_quoted(question)}",
        *(f"Answer {side}: {_quoted(text)}" for side, text in zip(SIDES, answers, strict=True)),
        f"Which is better? Weigh {', '.join(ANSWER_ASPECTS)}. Their order and their length mean nothing.",
        _winner(),
    ]
    return Question((image, "\n".join(lines)))


def _given(prompt: str, answer: str | None) -> list[str]:
    if answer is None:
        return [f"Prompt: {_quoted(prompt)}"]
    return [f"Question: {_quoted(prompt)}", f"Answer: {_quoted(answer)}"]


def _winner() -> str:
    form = '{"reason": "one sentence", "winner": "A" or "B" or "tie"}'
    return f"Reply with one JSON object of this form and nothing else: {form}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
