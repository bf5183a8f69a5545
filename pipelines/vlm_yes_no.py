"""What counts as yes and as no: each benchmark has a rule of its own."""

from __future__ import annotations

import re

NO = ("No", "not", "no")


def pope_answer(text: str) -> str:
    """ "no" where one of the words No, no, not stands before the first full stop, else "yes", whatever it says.

    Commas are dropped and words are what stands between blanks.

    References:
        The rule of LLaVA's evaluation of POPE (llava/eval/eval_pope.py), which most published figures use.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if any(word in words for word in NO) else "yes"


def mme_answer(text: str) -> str:
    """ "yes", "no" or "other": what the first four letters say, in any case.

    References:
        The rule of MME's calculation script.
    """
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def exact_answer(text: str) -> str:
    """ "yes" for Yes, "no" for No, "other" for everything else, as AMBER has it."""
    return {"Yes": "yes", "No": "no"}.get(text.strip(), "other")


def said(text: str) -> str:
    """ "yes" or "no" where the answer begins with it or holds one of the two words alone; "unclear" otherwise."""
    words = re.findall(r"[a-z]+", text.lower())
    if words[:1] in (["yes"], ["no"]):
        return words[0]
    found = {word for word in words if word in ("yes", "no")}
    return found.pop() if len(found) == 1 else "unclear"
