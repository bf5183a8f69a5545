"""What a judge's reply says, in the forms that models really use; what says nothing is an error."""

from __future__ import annotations

import json

import pytest

from rewards.judge_parsing import parse_ratings, parse_winner

TWO = ("prompt_following", "aesthetic")
PLAIN = {"prompt_following": 4, "aesthetic": 2}
NESTED = {name: {"reason": f"a {{brace}} and {name}: 1", "rating": rating} for name, rating in PLAIN.items()}
DRAFT = {"prompt_following": 1, "aesthetic": 1}

RATINGS = {
    "strict": json.dumps(PLAIN),
    "reasons": json.dumps(NESTED, indent=2),
    "fenced": f"Here you are:\n```json\n{json.dumps(NESTED)}\n```\nHope it helps.",
    "in prose": f"My ratings are {json.dumps(PLAIN)} in all.",
    "below a name": json.dumps({"ratings": NESTED, "summary": "fine"}),
    "other spelling": json.dumps({"Prompt Following": "4", "AESTHETIC": "2/5"}),
    "score": json.dumps({"prompt-following": {"Score": 4}, "aesthetic": {"score": "2 out of 5"}}),
    "the last one counts": f"Draft: {json.dumps(DRAFT)}\nFinal: {json.dumps(PLAIN)}",
    "thoughts do not": f"{json.dumps(PLAIN)} <think>or rather {json.dumps(DRAFT)}?</think>",
    "cut thoughts": f"{json.dumps(PLAIN)} <think>aesthetic: 1",
    "answer": f"<think>{json.dumps(DRAFT)}</think><answer>{json.dumps(PLAIN)}</answer>",
    "lines": "Prompt following: 4\n- **Aesthetic** (1-5): 2/5",
    "lines, last": "aesthetic: 1-5\nPrompt-Following: 3\n\nFinal\nPrompt Following: 4 out of 5\nAesthetic: 2",
    "single quotes": "{'prompt_following': 4, 'aesthetic': 2}",
    "table": "| prompt_following | 4 |\n| aesthetic | 2 |",
}


@pytest.mark.parametrize("form", RATINGS)
def test_ratings_are_read(form: str) -> None:
    assert parse_ratings(RATINGS[form], TWO) == PLAIN


NO_RATINGS = {
    "nothing": ("I cannot rate this image.", "no rating of prompt_following, aesthetic"),
    "empty": ("", "no rating"),
    "one is missing": ('{"aesthetic": 3}', "no rating of prompt_following"),
    "one is missing, though numbers are near": ("aesthetic: 3\nfidelity: 4", "no rating of prompt_following"),
    "too high": ('{"prompt_following": 4, "aesthetic": 7}', "rates aesthetic 7, not a number from 1 to 5"),
    "zero": ('{"prompt_following": 0, "aesthetic": 2}', "rates prompt_following 0, not"),
    "out of ten": ("prompt following: 4/10\naesthetic: 2/5", "rates prompt_following 4/10"),
    "out of a hundred": ('{"prompt_following": "4/100", "aesthetic": 2}', "rates prompt_following 4/100"),
    "percent": ("prompt following: 45%\naesthetic: 2", "no rating of prompt_following"),
    "the range alone": ("prompt following: 1-5\naesthetic: 2", "no rating of prompt_following"),
    "true": ('{"prompt_following": true, "aesthetic": 2}', "rates prompt_following True"),
    "null": ('{"prompt_following": null, "aesthetic": 2}', "rates prompt_following None"),
    "not a number": ('{"prompt_following": NaN, "aesthetic": 2}', "rates prompt_following nan"),
    "words": ('{"prompt_following": "good", "aesthetic": 2}', "rates prompt_following good"),
    "only thoughts": ("<think>prompt following: 4, aesthetic: 2", "no rating"),
    "deep": ("{" * 5000 + '"a":', "no rating"),
}


@pytest.mark.parametrize("case", NO_RATINGS)
def test_what_is_no_rating_is_an_error_with_the_reply(case: str) -> None:
    reply, message = NO_RATINGS[case]
    with pytest.raises(ValueError, match="judge") as caught:
        parse_ratings(reply, TWO)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 320
    assert "\n" not in str(caught.value)


WINNERS = {
    '{"reason": "B is dull", "winner": "A"}': 1,
    '```json\n{"winner": "B"}\n```': 0,
    '{"Winner": "Image 2"}': 0,
    '{"winner": "tie"}': 0.5,
    '{"winner": "both"}': 0.5,
    '{"winner": 1}': 1,
    "A": 1,
    "**B**": 0,
    "Answer: the winner is B.": 0,
    "Winner: **Image A**": 1,
    "At first Image A is better. In the end Image 2 is better than Image 1.": 0,
    "Both images are equally good": 0.5,
    "<think>Image A is better</think><answer>Image 2 is better</answer>": 0,
    "<answer>first</answer>": 1,
    '{"winner": "A"} no, {"winner": "B"}': 0,
    "It is a tie.": 0.5,
    "The winner is a tie": 0.5,
    "Candidate B is the winner.": 0,
}


@pytest.mark.parametrize("reply", WINNERS)
def test_a_winner_is_read(reply: str) -> None:
    assert parse_winner(reply) == WINNERS[reply]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot say.",
        "A lovely pair of images.",
        '{"winner": "C"}',
        '{"winner": null}',
        "Image C is better",
        "The winner is a fine picture, and better is a word for it.",
    ],
)
def test_no_winner_is_never_a_side(reply: str) -> None:
    with pytest.raises(ValueError, match="names no winner"):
        parse_winner(reply)
