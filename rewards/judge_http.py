"""A judge behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, or somebody's service."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mmpo.data.images import encode
from rewards.http_json import Address, Answer, address_of, post
from rewards.judge_backend import Keep, Reply, hashed
from rewards.question import Question, shortened

REQUEST = {"temperature": 0, "max_tokens": 1024}
LONGEST_WAIT = 60.0
TIRED = "the judge's endpoint, tried"
MANY = 4  # questions at once: where all of so many fail, the endpoint is down, and going on would take days
AGAIN = (408, 409, 425, 429)
FATAL = {
    401: "the key is not accepted: see key_variable",
    403: "the key may not use this: see key_variable and model",
    404: "no such place or model: see url (it ends in /v1, mostly) and model",
}


@dataclass(frozen=True)
class HttpBackend:
    """Asks `URL/chat/completions`, several questions at a time.

    A status 429, 408, 409, 425 or 5xx, a lost connection, silence and what is no chat completion are tried again
    after 1, 2, 4, ... times `backoff` seconds and up to half as much more, at least what `Retry-After` asks, at most
    a minute. Any other status is the row's error, or ends the run where every row would have it; so does a batch of
    which nothing got through.

    Args:
        url: the base, such as http://localhost:8000/v1.
        model: its name there.
        key_variable: environment variable that holds the key; "" sends none.
        request: what else the request says.
        concurrency: questions at a time.
        timeout: seconds for a connection, for each wait, and for the body.
        tries: per question.
        backoff: seconds before the second try.
    Raises:
        ValueError: an address, key or number that cannot be.
    """

    url: str
    model: str
    key_variable: str = ""
    request: Mapping[str, Any] = field(default_factory=lambda: dict(REQUEST))
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 6
    backoff: float = 1.0

    def __post_init__(self) -> None:
        address_of(self.url, "")
        if not self.model:
            raise ValueError("model: name the model that the endpoint serves")
        if self.concurrency < 1 or self.tries < 1 or self.timeout <= 0 or self.backoff < 0:
            raise ValueError("concurrency, tries: at least 1; timeout: above 0; backoff: at least 0")
        self._headers()

    @property
    def identity(self) -> Mapping[str, str]:
        """Address, model and request."""
        return {"url": self.url, "model": self.model, "request": json.dumps(dict(self.request), sort_keys=True)}

    def key(self, question: Question) -> str:
        """A hash of address and request; the key of the service is not in it."""
        return hashed({"url": self.url.rstrip("/"), **self._payload(question)})

    def ask(self, questions: Sequence[Question], keep: Keep) -> list[Reply]:
        """See `rewards.judge_backend.Backend.ask`."""
        address, stop = address_of(self.url, "/chat/completions"), threading.Event()

        def one(number: int) -> Reply:
            try:
                reply = self._answer(address, questions[number], stop)
            except BaseException:
                stop.set()
                raise
            if reply.text is not None:
                keep(number, reply.text)
            return reply

        pool = ThreadPoolExecutor(max_workers=min(self.concurrency, max(1, len(questions))))
        try:
            replies = list(pool.map(one, range(len(questions))))
        finally:  # after an error or Ctrl-C those that wait give up
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if len(replies) >= MANY and all((reply.error or "").startswith(TIRED) for reply in replies):
            raise ValueError(f"url {self.url}: none of {len(replies)} questions got through; {replies[-1].error}")
        return replies

    def _answer(self, address: Address, question: Question, stop: threading.Event) -> Reply:
        body, headers = json.dumps(self._payload(question)).encode(), self._headers()
        fault = "stopped"
        for attempt in range(self.tries):
            if stop.is_set():
                break
            least = 0.0
            try:
                answer = post(address, body, headers, timeout=self.timeout)
            except ssl.SSLCertVerificationError as error:
                raise ValueError(f"url {self.url}: its certificate is not accepted ({error.verify_message})") from None
            except (OSError, http.client.HTTPException) as error:
                fault = f"no answer ({type(error).__name__}: {error})"
            else:
                if answer.status == 200 and (reply := _said(answer.body)) is not None:
                    return reply
                fault = self._fault(answer)
                if answer.status in FATAL or 300 <= answer.status < 400:
                    why = FATAL.get(answer.status, "it sends one elsewhere: state that address")
                    raise ValueError(f"url {self.url}, model {self.model}: {fault}; {why}")
                if answer.status != 200 and answer.status not in AGAIN and answer.status < 500:
                    return Reply(None, f"the judge's endpoint: {fault}")
                least = answer.retry_after or 0.0
            wait = max(self.backoff * 2**attempt * random.uniform(1.0, 1.5), least)
            if attempt + 1 < self.tries and stop.wait(min(wait, LONGEST_WAIT)):
                break
        return Reply(None, f"{TIRED} {self.tries} times: {fault}")

    def _payload(self, question: Question) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(part)}}
            if isinstance(part, Image.Image)
            else {"type": "text", "text": part}
            for part in question.parts
        ]
        return {**self.request, "model": self.model, "messages": [{"role": "user", "content": content}]}

    def _headers(self) -> dict[str, str]:
        """With the key, read anew so that no object holds it."""
        if not self.key_variable:
            return {}
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ValueError(f"key_variable: the environment has no {self.key_variable}; set it, or leave this out")
        if not all(33 <= ord(letter) <= 126 for letter in key):  # http.client's own error would show it
            raise ValueError(f"key_variable: {self.key_variable} holds blanks or letters that no key has")
        return {"Authorization": f"Bearer {key}"}

    def _fault(self, answer: Answer) -> str:
        """The status and what the server says of it, without the key, which some servers repeat."""
        text = answer.body.decode(errors="replace")
        try:
            held = json.loads(text)
            said = held["error"]["message"] if isinstance(held["error"], dict) else held["error"]
        except (ValueError, KeyError, TypeError):
            said = text
        key = self._headers().get("Authorization", "").removeprefix("Bearer ")
        said = str(said).replace(key, "***") if key else str(said)
        name = http.client.responses.get(answer.status, "")
        what = ", which is no chat completion" if answer.status == 200 else ""
        return f"{answer.status} {name}{what}: {shortened(said)}"


def _said(body: bytes) -> Reply | None:
    """The text of a chat completion; None where it is none."""
    try:
        choice = json.loads(body)["choices"][0]
        content, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if refusal:
        return Reply(None, f"the judge refuses: {shortened(str(refusal))}")
    if isinstance(content, str) and content.strip():
        return Reply(content)
    if choice.get("finish_reason") == "length":
        return Reply(None, "the judge was cut before it said anything; raise max_tokens in request")
    return Reply(None, "the judge's reply is empty")


def _data_url(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode(image, lossless=False)).decode()
