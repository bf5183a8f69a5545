"""The server of `mmpo vote`, on 127.0.0.1 and nowhere else. No torch."""

from __future__ import annotations

import errno
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipelines.vote_http import LARGEST_BODY, Request, Response, VotePage

HOST = "127.0.0.1"
PATIENCE = 30  # seconds that a client may take for a request


class VoteServer(ThreadingHTTPServer):
    """A server of one page.

    Args:
        port: 0 takes a free one.
    Raises:
        ValueError: the port is taken, or not for this user.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # elsewhere: a port that was just left, and never one that is in use

    def __init__(self, page: VotePage, port: int = 0) -> None:
        self.page = page
        self.finished = threading.Event()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is taken" if error.errno == errno.EADDRINUSE else "is not for this user"
            raise ValueError(f"--port {port} {why}; give another, or none: a free one is taken then") from None

    def server_bind(self) -> None:
        """Binds without asking a name server for this machine's name, as the parent class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Of the page, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.page.token}/"


class Handler(BaseHTTPRequestHandler):
    """Requests from the socket to `VotePage.answer`, and its responses back."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mmpo", ""
    timeout = PATIENCE
    server: VoteServer

    def do_GET(self) -> None:
        """Without a body; one that is sent all the same is not read, and ends the connection."""
        self.close_connection = self.close_connection or bool({"Content-Length", "Transfer-Encoding"} & {*self.headers})
        self._answer(b"")

    def do_POST(self) -> None:
        """With a body that says its length and is small."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            return self._refuse(HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 9 or int(length) > LARGEST_BODY:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self._answer(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is for the address and what was written."""

    def _answer(self, body: bytes) -> None:
        headers = self.headers
        if any(len(headers.get_all(name, [])) > 1 for name in ("Host", "Origin")):
            return self._refuse(HTTPStatus.BAD_REQUEST)
        named = {name.lower(): value for name, value in headers.items()}
        response = self.server.page.answer(Request(self.command, self.path, named, body))
        self._send(response.status, response.headers(), response)
        if response.last:
            self.server.finished.set()
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, {"Connection": "close", "Content-Type": "text/plain"}, None)

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], response: Response | None) -> None:
        body = response.body if response is not None else status.phrase.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def serve(server: VoteServer, ready: Callable[[str], None]) -> bool:
    """Serves until the voter finishes or Ctrl-C is pressed.

    Args:
        ready: is told the address.
    Returns:
        Whether the voter finished.
    """
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        ready(server.address)
        while not server.finished.wait(0.5):  # in pieces, so that Ctrl-C is heard everywhere
            pass
    except KeyboardInterrupt:
        return False
    finally:
        server.shutdown()
        server.server_close()
    return True
