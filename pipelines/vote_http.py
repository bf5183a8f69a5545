"""What the page of `mmpo vote` is told: requests to responses, checked first; no socket in here. No torch."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pipelines.vote_ballot import Ballot, Stale
from pipelines.vote_data import Images

LARGEST_BODY = 4096  # bytes; an answer has under a hundred
HERE = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?")  # any port: `ssh -L` may show ours as another
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FILES = {
    "": ("vote.html", "text/html; charset=utf-8"),
    "vote.css": ("vote.css", "text/css; charset=utf-8"),
    "vote.js": ("vote.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Args:
        path: as it was sent.
        headers: by lower-case name.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a request.

    Args:
        kind: media type.
        keep: whether the browser may keep it for this run.
        last: the voter is done; the server ends.
    """

    status: HTTPStatus
    kind: str
    body: bytes
    keep: bool = False
    last: bool = False

    def headers(self) -> dict[str, str]:
        """Headers beside the length."""
        cache = "private, max-age=3600" if self.keep else "no-store"
        return {"Content-Type": self.kind, "Cache-Control": cache, **HEADERS}


@dataclass(frozen=True)
class VotePage:
    """The pages below `/TOKEN/`: the page and its files, `state`, `image/N`; posted: `vote`, `undo`, `finish`.

    Args:
        token: of this run; who does not know it is told nothing.
        finish: writes what the votes say, and says what was written, for the page.
    """

    ballot: Ballot
    images: Images
    token: str
    finish: Callable[[], list[str]]

    def answer(self, request: Request) -> Response:
        """The response; what the client did wrong is a status, never an exception."""
        if not HERE.fullmatch(request.headers.get("host", "")):
            return _error(HTTPStatus.FORBIDDEN, "this page is for 127.0.0.1 only")
        _, token, name = (*request.path.split("/", 2), "", "")[:3]
        known = secrets.compare_digest(token.encode(), self.token.encode())
        if not known or not request.path.startswith(f"/{token}/"):
            return _error(HTTPStatus.NOT_FOUND, "not found; open the whole address that mmpo vote printed")
        if request.method == "GET":
            return self._get(name)
        if request.method == "POST":
            return self._checked_post(name, request)
        return _error(HTTPStatus.METHOD_NOT_ALLOWED, "GET or POST only")

    def _get(self, name: str) -> Response:
        if name in FILES:
            file, kind = FILES[name]
            return Response(HTTPStatus.OK, kind, Path(__file__).with_name(file).read_bytes())
        if name == "state":
            return _json(self.ballot.state())
        number = re.fullmatch(r"image/(\d{1,9})", name, re.ASCII)
        if number is None or int(number[1]) >= len(self.images):
            return _error(HTTPStatus.NOT_FOUND, "not found")
        try:
            return Response(HTTPStatus.OK, *self.images.shown(int(number[1])), keep=True)
        except ValueError as error:
            return _error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    def _checked_post(self, name: str, request: Request) -> Response:
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            return _error(HTTPStatus.FORBIDDEN, "votes are taken from this page only")
        if request.headers.get("content-type") != "application/json":
            return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        try:
            given = json.loads(request.body)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            return _error(HTTPStatus.BAD_REQUEST, "expected an object of JSON")
        try:
            return self._post(name, given)
        except Stale:
            return _json({"error": "that question is not asked now", **self.ballot.state()}, HTTPStatus.CONFLICT)
        except ValueError as error:
            return _error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except OSError as error:
            return _error(
                HTTPStatus.INSUFFICIENT_STORAGE, f"not kept: {error.strerror or error}: {error.filename or ''}"
            )

    def _post(self, name: str, given: Mapping[str, Any]) -> Response:
        number, choice = given.get("number"), given.get("choice")
        if name in ("vote", "undo") and not _is_number(number) and not (name == "undo" and number is None):
            return _error(HTTPStatus.BAD_REQUEST, "number: expected that of the question")
        if name == "vote":
            if not _is_number(choice) or choice not in (0, 1, 2):
                return _error(HTTPStatus.BAD_REQUEST, "choice: expected 1, 2 or 0")
            return _json(self.ballot.vote(number, choice))  # type: ignore[arg-type]
        if name == "undo":
            return _json(self.ballot.undo(number))
        if name == "finish":
            body = json.dumps({"written": self.finish()}).encode()
            return Response(HTTPStatus.OK, "application/json", body, last=True)
        return _error(HTTPStatus.NOT_FOUND, "not found")


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status, "application/json", json.dumps(value).encode())


def _error(status: HTTPStatus, message: str) -> Response:
    return _json({"error": message}, status)
