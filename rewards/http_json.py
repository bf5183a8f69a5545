"""One POST of JSON with the standard library: no redirect is followed, no proxy asked, nothing logged."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Address:
    """Where to post.

    Args:
        secure: https.
        host, port, path: of the URL.
    """

    secure: bool
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Args:
        status: HTTP's number.
        retry_after: seconds that it asks to wait; None where it does not.
        body: at most `MOST_BYTES`.
    """

    status: int
    retry_after: float | None
    body: bytes


def address_of(url: str, path: str) -> Address:
    """The address of `path` under a base URL.

    Raises:
        ValueError: not http or https, no host, or with a name and password in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: expected http://... or https://..., got {_without_secrets(url)!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "url: no name, password, query or fragment may stand in it; "
            "a key comes from the environment, see key_variable"
        )
    secure = parts.scheme == "https"
    return Address(secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/") + path)


def post(address: Address, body: bytes, headers: Mapping[str, str], *, timeout: float) -> Answer:
    """Posts and reads the answer, whatever its status.

    Args:
        timeout: seconds for a connection, for each wait, and in all for the answer's body.
    Raises:
        OSError: no connection, or none in time (TimeoutError).
        http.client.HTTPException: not an answer of HTTP, or too long a one.
    """
    if address.secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address.host, address.port, timeout=timeout, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        connection.request("POST", address.path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        pieces, size, end = [], 0, time.monotonic() + timeout
        while piece := response.read1(65536):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise http.client.HTTPException(f"an answer of more than {MOST_BYTES} bytes")
            if time.monotonic() > end:
                raise TimeoutError("timed out")
        return Answer(response.status, _seconds(response.getheader("Retry-After")), b"".join(pieces))
    finally:
        connection.close()


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:  # a date
        return None


def _without_secrets(url: str) -> str:
    return url.partition("?")[0] if "@" not in url else "a URL with a name in it"
