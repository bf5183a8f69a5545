"""Who says whether an answer is right: an endpoint, replies in a file, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.vlm_items import rows_in

Judge = Callable[[Sequence[tuple[str, str]]], Sequence[str | None]]
"""(question's id, what is asked of the judge) -> replies in order; None where there is none."""

REPLIES = ("reply", "judge", "review", "response", "content", "text")


def replies_of(file: Path) -> Judge:
    """Replies that were made elsewhere: rows of `id` and `reply`.

    Raises:
        ValueError: nothing there, or a row without one of them.
    """
    known: dict[str, str] = {}
    for place, row in rows_in(file):
        name = row.get("id", row.get("key"))
        text = next((row[column] for column in REPLIES if isinstance(row.get(column), str)), None)
        if name is None or text is None:
            raise ValueError(f'{place}: expected {{"id": ..., "reply": ...}}, found {", ".join(map(str, row))}')
        known[str(name)] = text
    return lambda asked: [known.get(name) for name, _ in asked]


def endpoint(url: str, model: str, key_variable: str = "") -> Judge:
    """A model behind an OpenAI-compatible endpoint, asked in text alone.

    Args:
        url: its base, such as http://localhost:8000/v1.
        key_variable: the environment variable that holds the key; "" sends none.
    Raises:
        ValueError: an address that cannot be; from the judge: an endpoint that refuses every question.
    """
    from rewards.judge_http import HttpBackend
    from rewards.question import Question

    backend = HttpBackend(url, model, key_variable)

    def ask(asked: Sequence[tuple[str, str]]) -> list[str | None]:
        return [
            reply.text for reply in backend.ask([Question((text,)) for _, text in asked], lambda number, text: None)
        ]

    return ask


def judge_of(named: str | None, model: str | None, key_variable: str) -> Judge | None:
    """The judge that a command line names; None where it names none.

    Args:
        named: "yes_no" for none, a URL, or a file of replies.
    Raises:
        ValueError: a URL without a model.
    """
    if named in (None, "yes_no"):
        return None
    assert named is not None
    if "://" not in named:
        return replies_of(Path(named))
    if not model:
        raise ValueError("--judge-model: name the model that the judge's endpoint serves")
    return endpoint(named, model, key_variable)


def asked_of(judge: Judge, prompts: Mapping[str, str]) -> dict[str, str | None]:
    """The judge's replies by the question's id.

    Raises:
        ValueError: it replied to none.
    """
    replies = dict(zip(prompts, judge(list(prompts.items())), strict=True))
    if prompts and not any(replies.values()):
        raise ValueError(f"the judge replied to none of {len(prompts)} questions; are its ids those of the benchmark?")
    return replies
