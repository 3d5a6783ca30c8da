"""A relay between a client and PostgreSQL that counts round trips, and can lose a connection."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL, make_url

_SIZE = 65536
_POLL_SECONDS = 0.05


@dataclass
class Turns:
    """The address of a relay, and what it has seen.

    Attributes
    ----------
    url : str
        The database, through the relay.
    count : int
        The number of times that the client has sent something after an answer.
    lose : "request", "answer" or None
        Close the connection instead of passing on what the client sends next, or what the server
        answers to that. Done once.
    """

    url: str = ""
    count: int = 0
    lose: Literal["request", "answer"] | None = None


def _address(url: URL) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    port = url.port or int(url.normalized_query.get("port", ("5432",))[0])
    host = url.host or url.normalized_query.get("host", ("localhost",))[0]
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


def _relay(client: socket.socket, server: socket.socket, turns: Turns) -> None:
    answered = True
    with client, server:
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(_SIZE)
                if not data:
                    return
                if ready is client:
                    turns.count += answered
                    answered = False
                    if turns.lose == "request":
                        turns.lose = None
                        return
                    server.sendall(data)
                else:
                    answered = True
                    if turns.lose == "answer":
                        # Everything that the client sent was carried out when this is ready.
                        turns.lose = None
                        return
                    client.sendall(data)


@contextmanager
def counted_turns(url: str) -> Iterator[Turns]:
    """Run a relay to a database."""
    database = make_url(url)
    family, address = _address(database)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_POLL_SECONDS)
        turns = Turns(
            URL.create(
                "postgresql",
                username=database.username,
                password=database.password,
                host="127.0.0.1",
                port=listener.getsockname()[1],
                database=database.database,
                query={"sslmode": "disable", "gssencmode": "disable"},
            ).render_as_string(hide_password=False)
        )
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                client.settimeout(None)
                server = socket.socket(family)
                server.connect(address)
                threading.Thread(target=_relay, args=(client, server, turns), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield turns
        finally:
            ended.set()
            thread.join()
