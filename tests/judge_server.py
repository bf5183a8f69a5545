"""A judge's endpoint on this machine: answers by a plan, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Plan = Callable[[dict[str, Any], int], "Say"]
"""(request, how many times this very request has come before) to what is answered."""


@dataclass
class Say:
    """One answer.

    Args:
        text: of the chat completion; None answers with `body`.
        status, headers, body: of HTTP.
        wait: seconds before it.
        choice: what else stands in the choice.
    """

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    wait: float = 0.0
    choice: dict[str, Any] = field(default_factory=dict)

    def data(self) -> bytes:
        """The body."""
        if self.text is None:
            return self.body
        choice = {"message": {"role": "assistant", "content": self.text}, "finish_reason": "stop", **self.choice}
        return json.dumps({"choices": [choice]}).encode()


@dataclass
class Endpoint:
    """A running server.

    Args:
        url: its base.
        requests: bodies that came, in order.
        headers: of them.
        busiest: most requests at one time.
    """

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    busiest: int = 0


def text_of(request: dict[str, Any]) -> str:
    """All text of a request."""
    content = request["messages"][0]["content"]
    return "\n".join(part["text"] for part in content if part["type"] == "text")


@contextmanager
def judge_server(plan: Plan) -> Iterator[Endpoint]:
    """A server for the block."""
    lock, now = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            with lock:
                before = endpoint.requests.count(request)
                endpoint.requests.append(request)
                endpoint.headers.append({"path": self.path, **dict(self.headers)})
                now[0] += 1
                endpoint.busiest = max(endpoint.busiest, now[0])
            say = plan(request, before)
            time.sleep(say.wait)
            with lock:
                now[0] -= 1
            data = say.data()
            try:
                self.send_response(say.status)
                for name, value in {"Content-Length": str(len(data)), **say.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # whoever asked has gone
                pass

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
