"""A proxy in front of an S3 server that refuses some requests, as other S3 servers do.

It also damages requests and answers on their way, as bad networks do.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


class Request(NamedTuple):
    """A request of a client."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def deletes_many(self) -> bool:
        return self.method == "POST" and "delete" in self._query

    @property
    def lists_versions(self) -> bool:
        return self.method == "GET" and "versions" in self._query

    @property
    def lists_uploads(self) -> bool:
        return self.method == "GET" and "uploads" in self._query

    @property
    def part(self) -> int:
        """The number of the part that it uploads, or 0."""
        return int(self._query.get("partNumber", ["0"])[0])

    @property
    def range(self) -> str:
        """The bytes of an object that it asks for, such as ``0-99``, or nothing."""
        return self.headers.get("range", "").removeprefix("bytes=")

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    @property
    def md5_is_correct(self) -> bool:
        digest = base64.b64encode(hashlib.md5(self.body).digest()).decode()
        return self.headers.get("content-md5") == digest


class Refusal(NamedTuple):
    """The answer to a refused request; without a code, it has no body."""

    status: int
    code: str = ""

    @property
    def body(self) -> bytes:
        if not self.code:
            return b""
        return f"<Error><Code>{self.code}</Code><Message>refused</Message></Error>".encode()


def _unchanged(body: bytes) -> bytes:
    return body


class Damage(NamedTuple):
    """Changes of a request or its answer; a shortened answer ends with the connection."""

    request: Callable[[bytes], bytes] = _unchanged
    answer: Callable[[bytes], bytes] = _unchanged


Refuse = Callable[[Request], Refusal | Damage | None]


@dataclass
class S3Proxy:
    """The address of a running proxy, and the requests that it received."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def s3_proxy(upstream: str, refuse: Refuse) -> Iterator[S3Proxy]:
    """Run a proxy that answers some requests with a refusal and passes on all others."""
    host = urlsplit(upstream).netloc
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One segment for headers and body, or the client waits for a delayed acknowledgement.
        wbufsize = -1

        def handle_expect_100(self) -> bool:
            done = super().handle_expect_100()
            self.wfile.flush()
            return done

        def _handle(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(self.command, self.path, headers, body)
            requests.append(request)
            refusal = refuse(request)
            if isinstance(refusal, Refusal):
                self._answer(refusal.status, [("content-type", "application/xml")], refusal.body)
            else:
                self._pass_on(request, refusal or Damage())

        do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _handle

        def _pass_on(self, request: Request, damage: Damage) -> None:
            # The headers are signed, so they are passed on as they are, with the name of the host.
            headers = {name: v for name, v in request.headers.items() if name not in HOP_BY_HOP}
            connection = http.client.HTTPConnection(host)
            try:
                body = damage.request(request.body)
                connection.request(request.method, request.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                sent = damage.answer(content)
                self._answer(answer.status, answer.getheaders(), sent, len(content))
            finally:
                connection.close()

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            body: bytes,
            promised: int | None = None,
        ) -> None:
            self.send_response_only(status)
            length = str(len(body) if promised is None else promised)
            self.close_connection |= promised is not None and promised > len(body)
            for name, value in headers:
                if name.lower() == "content-length":
                    # The answer to HEAD has the length of an absent body.
                    length = value
                elif name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", length)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        # Idle connections of clients do not delay the end.
        server.daemon_threads = True
        server.block_on_close = False
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield S3Proxy(f"http://127.0.0.1:{server.server_port}", requests)
        finally:
            server.shutdown()
            thread.join()
