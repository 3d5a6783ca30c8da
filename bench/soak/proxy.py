"""A proxy to an S3 server that delays, refuses, cuts and loses some requests."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Each of these happens to so large a share of the requests.
TROUBLES = {
    "delayed": 0.1,
    "refused with status 500": 0.08,
    "cut while sent": 0.06,
    "answer lost": 0.06,
    "answer cut": 0.05,
}
LONGEST_DELAY = 1.0


class Proxy(ThreadingHTTPServer):
    """An HTTP server that passes requests on to another one.

    Parameters
    ----------
    upstream : str
        The URL of the other server.
    """

    daemon_threads = True
    # Some clients close the connection first; that is expected here.
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.troubles: Counter[str] = Counter()
        self.troubled = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that a killed client has left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Ignore requests to log."""

    def _pass_on(self) -> None:
        trouble = self._trouble()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if trouble == "refused with status 500":
            self._refuse()
            return
        if trouble == "delayed":
            time.sleep(random.uniform(0, LONGEST_DELAY))
        host, port = self.server.upstream.hostname, self.server.upstream.port
        connection = http.client.HTTPConnection(host or "", port, timeout=60)
        try:
            # The signature covers the header Host, so it stays that of the proxy.
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            cut = trouble == "cut while sent"
            connection.endheaders(body[: len(body) // 2] if cut else body)
            if cut:
                self._hang_up()
                return
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if trouble == "answer lost":
            self._hang_up()
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        if answer.status not in (204, 304):
            self.send_header("Content-Length", length or "0")
        self.end_headers()
        if trouble == "answer cut":
            self.wfile.write(data[: len(data) // 2])
            self._hang_up()
            return
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _trouble(self) -> str | None:
        if not self.server.troubled:
            return None
        drawn = random.random()
        for trouble, share in TROUBLES.items():
            if drawn < share:
                self.server.troubles[trouble] += 1
                return trouble
            drawn -= share
        return None

    def _refuse(self) -> None:
        text = b"<Error><Code>InternalError</Code><Message>out of order</Message></Error>"
        self.send_response_only(500)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Yield a running proxy, and stop it at the end."""
    server = Proxy(upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
