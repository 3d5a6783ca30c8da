"""The processes of a deployment: servers, a strategist and compute services."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from alchemistore.errors import AlchemistoreError

HOST = "127.0.0.1"
# Seconds until the registration of a silent compute service expires. The default of alchemiscale is
# half an hour.
SILENCE = 10
# Seconds to wait for a server that starts, and for a process that ends.
START_PATIENCE, END_PATIENCE = 120.0, 30.0
# What a console script of either package does.
PROGRAMS = {
    "alchemistore": "from alchemistore.cli import main; main()",
    "alchemiscale": "from alchemiscale.cli import cli; cli()",
}


class DeploymentError(AlchemistoreError):
    """A process of the deployment has ended or does not answer."""


@dataclass
class Deployment:
    """The processes of a deployment.

    Parameters
    ----------
    directory : Path
        The directory of configuration files, logs and scratch files.
    variables : mapping of str to str
        The variables of the servers: database, object store and the secret of the tokens. Compute
        services do not get them.
    """

    directory: Path
    variables: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = self.directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the block, then end all processes."""
        try:
            yield
        finally:
            # The services first, because they deregister themselves.
            self.end(lambda name: not name.endswith("api"))
            self.end(lambda name: True)

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> bool:
        """Run a command of ``alchemistore``, wait for it, and return whether it succeeded.

        Raises
        ------
        CalledProcessError
            If it fails, and `check` is true.
        """
        done = subprocess.run(
            [sys.executable, "-c", PROGRAMS["alchemistore"], *arguments],
            env=self._environment(self.variables),
            input=stdin,
            text=True,
            check=check,
        )
        return done.returncode == 0

    def start_api(self, name: str, *options: str) -> str:
        """Start a server with ``alchemistore serve``, and return its URL when it answers.

        Parameters
        ----------
        name : str
            ``api`` or ``compute``.
        *options : str
            Options of alchemiscale.
        """
        port = str(free_port())
        address = ("--host", HOST, "--port", port)
        process = self._start(
            f"{name}-api", "alchemistore", "serve", name, *address, *options, **self.variables
        )
        url = f"http://{HOST}:{port}"
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()  # noqa: S310 (our own URL)
            except (urllib.error.URLError, TimeoutError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DeploymentError(
                        f"the {name} API does not answer: see {self._log(f'{name}-api')}"
                    ) from error
                time.sleep(0.1)
            else:
                return url

    def start_strategist(self) -> None:
        """Start the strategist with ``alchemistore serve``."""
        settings = {
            "sleep_interval": 1,
            "max_workers": 1,
            "cache_directory": str(self.directory / "strategist-cache"),
        }
        file = self._configuration("strategist", settings)
        self._start(
            "strategist", "alchemistore", "serve", "strategist", "--config-file", file,
            **self.variables,
        )  # fmt: skip

    def start_service(
        self, name: str, url: str, identifier: str, key: str, **variables: str
    ) -> None:
        """Start a compute service with alchemiscale's own command.

        Parameters
        ----------
        name : str
            The name of the service.
        url : str
            The URL of the compute API.
        identifier, key : str
            The compute identity of the service.
        **variables : str
            More variables of the process.
        """
        settings = {
            "name": name,
            "api_url": url,
            "identifier": identifier,
            "key": key,
            "shared_basedir": str(self.directory / f"{name}-shared"),
            "scratch_basedir": str(self.directory / f"{name}-scratch"),
            "heartbeat_interval": 1,
            "sleep_interval": 1,
            # A failed unit of the protocol is not repeated, so that the server hears of it.
            "n_retries": 0,
            "loglevel": "INFO",
        }
        file = self._configuration(name, settings)
        self._start(name, "alchemiscale", "compute", "synchronous", "-c", file, **variables)

    def name_of(self, pid: int) -> str:
        """Return the name of the process with this id."""
        return next(name for name, process in self.processes.items() if process.pid == pid)

    def kill(self, name: str) -> None:
        """Kill a process. It has no chance to say anything to the server."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def require_alive(self) -> None:
        """Raise an error if a process has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise DeploymentError(
                    f"{name} has ended with code {process.returncode}: see {self._log(name)}"
                )

    def end(self, chosen: Callable[[str], bool]) -> None:
        """Stop the chosen processes with their children; kill those that do not end."""
        ending = {name: one for name, one in self.processes.items() if chosen(name)}
        children: list[psutil.Process] = []
        for name, process in ending.items():
            del self.processes[name]
            if process.poll() is None:
                children += psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_PATIENCE
        for process in ending.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in children:
            if child.is_running():
                child.kill()

    def _start(
        self, name: str, program: str, *arguments: str, **variables: str
    ) -> subprocess.Popen[bytes]:
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAMS[program], *arguments],
                env=self._environment(variables),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this process only, which then ends the others.
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        # Servers of the user must not be used instead of the private ones.
        foreign = ("ALCHEMISTORE_", "ALCHEMISCALE_", "NEO4J_", "AWS_", "JWT_")
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}

    def _configuration(self, name: str, settings: Mapping[str, object]) -> str:
        file = self.directory / f"{name}.yaml"
        # JSON is YAML, too.
        file.write_text(json.dumps(settings, indent=2))
        return str(file)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def free_port() -> int:
    """Return a TCP port that no process uses now."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        port: int = server.getsockname()[1]
    return port
