"""One person's way through the questions: which is asked, what was answered, and taking an answer back. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from mmpo.data.vote_log import VoteLog
from mmpo.data.vote_schedule import Question
from mmpo.data.vote_wins import Vote, standing
from pipelines.vote_data import Member, VoteData

AHEAD = 3  # questions whose images a browser may fetch before they are asked


class Stale(Exception):
    """An answer to a question that is not the one being asked."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ballot:
    """Questions and answers of one voter; safe to use from several threads.

    The file of votes is all that is kept: what is asked next follows from it.

    Args:
        data: what can be voted on.
        questions: in the order they are asked.
        log: open; holds the votes given so far, this voter's and others'.
        voter: whose answers these are.
        now: the time as text.
    """

    def __init__(
        self,
        data: VoteData,
        questions: Sequence[Question],
        log: VoteLog,
        voter: str,
        now: Callable[[], str] = _now,
    ) -> None:
        self._data, self._questions, self._log, self._voter, self._now = data, questions, log, voter, now
        self._lock = Lock()
        self._sizes = Counter(question.group for question in questions)
        numbers = {frozenset(self._ids(question)): number for number, question in enumerate(questions)}
        said = [pair for (who, pair) in standing(log.votes) if who == voter]
        self._order = [numbers[frozenset(pair)] for pair in said if frozenset(pair) in numbers]
        self._answered = set(self._order)
        self._of_group = Counter(questions[number].group for number in self._answered)
        self._at = self._next(0)

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        with self._lock:
            return self._state()

    def vote(self, number: int, choice: int) -> dict[str, Any]:
        """Keeps an answer and goes on to the next question.

        Args:
            number: of the question that is answered.
            choice: 1 what is shown first (left, or above) is better, 2 what is shown second, 0 neither.
        Raises:
            Stale: another question is asked.
            OSError: it could not be kept; the question stays.
        """
        with self._lock:
            if number != self._at:
                raise Stale
            swapped = self._questions[number].swapped
            result = 3 - choice if swapped and choice else choice
            self._add(number, result)
            self._order.append(number)
            self._answered.add(number)
            self._of_group[self._questions[number].group] += 1
            self._at = self._next(number)
            return self._state()

    def undo(self, number: int | None) -> dict[str, Any]:
        """Takes the last answer back and asks its question again.

        Args:
            number: of the question that is asked now; None where all are answered.
        Raises:
            Stale: another question is asked, or there is nothing to take back.
        """
        with self._lock:
            if number != self._at or not self._order:
                raise Stale
            last = self._order[-1]
            self._add(last, None)
            self._order.pop()
            self._answered.remove(last)
            self._of_group[self._questions[last].group] -= 1
            self._at = last
            return self._state()

    @property
    def votes(self) -> Sequence[Vote]:
        """Everybody's, in the order they were given."""
        with self._lock:
            return tuple(self._log.votes)

    def _add(self, number: int, result: int | None) -> None:
        question = self._questions[number]
        first, second = self._ids(question)
        prompt = self._data.groups[question.group][0].candidate.prompt
        left = 2 if question.swapped else 1
        self._log.add(Vote(first, second, prompt, result, self._voter, self._now(), left))

    def _next(self, after: int) -> int | None:
        """The first question without an answer, from `after` on and then from the start."""
        total = len(self._questions)
        numbers = (number % total for number in range(after, after + total))
        return next((number for number in numbers if number not in self._answered), None)

    def _members(self, question: Question) -> tuple[Member, Member]:
        group = self._data.groups[question.group]
        return group[question.first], group[question.second]

    def _ids(self, question: Question) -> tuple[str, str]:
        first, second = self._members(question)
        return first.id, second.id

    def _state(self) -> dict[str, Any]:
        return {
            "voter": self._voter,
            "kind": "answers" if self._data.kind == "answers" else "images",
            "done": len(self._answered),
            "total": len(self._questions),
            "undo": bool(self._order),
            "number": self._at,
            "question": None if self._at is None else self._shown(self._questions[self._at]),
            "ahead": self._ahead(),
        }

    def _shown(self, question: Question) -> dict[str, Any]:
        first, second = (_side(member) for member in self._members(question))
        sides = [second, first] if question.swapped else [first, second]
        prompt = self._data.groups[question.group][0].candidate.prompt
        of_prompt = [self._of_group[question.group] + 1, self._sizes[question.group]]
        return {"prompt": prompt, "sides": sides, "of_prompt": of_prompt}

    def _ahead(self) -> list[int]:
        if self._at is None:
            return []
        coming = (n for n in range(self._at + 1, len(self._questions)) if n not in self._answered)
        numbers = [number for number, _ in zip(coming, range(AHEAD), strict=False)]
        return [member.image for number in numbers for member in self._members(self._questions[number])]


def _side(member: Member) -> Mapping[str, Any]:
    return {"image": member.image, "text": member.candidate.response}


def check_votes(votes: Sequence[Vote], data: VoteData, file: Path) -> None:
    """Refuses votes on candidates that are not in the data.

    Raises:
        ValueError: names the first of them.
    """
    known = {member.id for group in data.groups for member in group}
    other = [vote for vote in votes if not {vote.first, vote.second} <= known]
    if other:
        raise ValueError(
            f"votes {file}: {len(other):,} of {len(votes):,} are on candidates that are not in the data (the first on "
            f"'{other[0].prompt[:80]}'); the data changed, are others, or are read with another --format, --split, "
            "--columns or --rejected: give the same, or another --output"
        )
