"""The services that ``alchemistore serve`` starts, with two workers of gunicorn."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alchemistore import CredentialedComputeIdentity, CredentialedUserIdentity, StateStore
from alchemistore.operations.key_hashing import hash_key
from tests.alchemiscale.conftest import running

KEY = "correct horse"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
    return port


def answer(url: str, form: dict[str, str] | None = None, token: str | None = None) -> Any:
    """Return the JSON answer to a request."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def wait_for(process: subprocess.Popen[Any], url: str) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        try:
            answer(url)
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not answer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "identity"),
    [("api", CredentialedUserIdentity), ("compute", CredentialedComputeIdentity)],
)
def test_two_workers_serve_many_clients(
    server_python: str,
    store: StateStore,
    pooled_database: str,
    cheap_hashes: None,
    service: str,
    identity: type[CredentialedUserIdentity] | type[CredentialedComputeIdentity],
) -> None:
    store.create_credentialed_entity(
        identity(identifier="someone", hashed_key=hash_key(KEY), scopes=["org-campaign-*"])
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["serve", service, "--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
    # Only our variable names the database.
    with running(server_python, *options, ALCHEMISTORE_DATABASE_URL=pooled_database) as process:
        wait_for(process, f"{url}/ping")

        def log_in(_: int) -> Any:
            form = {"username": "someone", "password": KEY}
            token = answer(f"{url}/token", form)["access_token"]
            return answer(f"{url}/identities/someone/scopes", token=token)

        with ThreadPoolExecutor(16) as pool:
            scopes = list(pool.map(log_in, range(64)))
    assert scopes == [["org-campaign-*"]] * 64


@pytest.mark.slow
def test_request_without_a_database_is_answered_so_that_clients_repeat_it(
    server_python: str,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["serve", "api", "--host", "127.0.0.1", "--port", str(port)]
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2"
    with running(server_python, *options, ALCHEMISTORE_DATABASE_URL=nowhere) as process:
        wait_for(process, f"{url}/ping")
        with pytest.raises(urllib.error.HTTPError) as raised:
            answer(f"{url}/token", {"username": "someone", "password": KEY})
        with raised.value as error:
            assert error.code == 503
