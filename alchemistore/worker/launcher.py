"""Start, watch and stop the processes of attempts."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from alchemistore.errors import AlchemistoreError, GufeNotInstalledError
from alchemistore.settings import MODULES_VARIABLE
from alchemistore.worker.files import AttemptFiles

# Seconds between a request to end and the kill.
GRACE = 5.0
# Seconds within which a process that was killed is gone, unless its disk does not answer.
KILLED = 60.0
# Variables that the processes of attempts do not get: they hold addresses and credentials.
SECRET_PREFIXES = ("ALCHEMISTORE_", "ALCHEMISCALE_", "AWS_", "JWT_", "NEO4J_", "PG")


class LauncherError(AlchemistoreError):
    """The process from which attempts are forked does not work."""


class End(NamedTuple):
    """How the process of an attempt ended.

    Attributes
    ----------
    code : int or None
        Its exit code, or the number of the signal that killed it, negated; ``None`` if unknown.
    cpu : float
        Seconds of CPU time, with those of processes that it waited for.
    memory : int
        Bytes of the largest of them in memory.
    """

    code: int | None
    cpu: float = 0.0
    memory: int = 0

    def __str__(self) -> str:
        if self.code is None:
            return "the process of the attempt disappeared"
        if self.code >= 0:
            return f"the process of the attempt ended with exit code {self.code} and no result"
        name = signal.Signals(-self.code).name
        hint = ", perhaps because memory ran out" if self.code == -signal.SIGKILL else ""
        return f"the process of the attempt was killed by signal {-self.code} ({name}){hint}"


class Launcher:
    """Starts the processes of attempts, one at a time, by forking one that has imported gufe.

    Parameters
    ----------
    environment : mapping of str to str, optional
        The environment of the processes. Default: that of this process. Variables with addresses
        and credentials of the servers are left out.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = without_secrets(os.environ if environment is None else environment)
        self._template: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def start(self) -> None:
        """Start the process from which attempts are forked, unless it is running.

        Raises
        ------
        GufeNotInstalledError
            If gufe is not installed.
        LauncherError
            If the process ended for another reason.
        """
        if self._template is not None and self._template.poll() is None:
            return
        self.close()
        self._template = subprocess.Popen(  # noqa: S603  (this interpreter and a module of ours)
            # Modules in the present directory are found as little as by the console script.
            [sys.executable, "-P", "-m", "alchemistore.worker.template", str(os.getpid())],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        answer = self._read()
        if answer is None:
            code = self._template.wait()
            raise LauncherError(
                f"the process from which attempts are forked ended with exit code {code}; standard"
                " error says why"
            )
        if "error" in answer:
            raise _NotInstalledError(answer["error"])

    def launch(self, files: AttemptFiles, memory: int | None, retries: int) -> AttemptProcess:
        """Start the process of an attempt.

        Parameters
        ----------
        files : AttemptFiles
            Its files.
        memory : int or None
            The bytes of data that each of its processes may allocate.
        retries : int
            The number of retries of a failed unit.

        Raises
        ------
        LauncherError
            If it cannot be started.
        """
        self.start()
        assert self._template is not None
        assert self._template.stdin is not None
        request = {
            "directory": str(files.directory.absolute()),
            "log": str(files.log.absolute()),
            "memory": memory,
            "retries": retries,
        }
        try:
            self._template.stdin.write(json.dumps(request).encode() + b"\n")
            self._template.stdin.flush()
        except BrokenPipeError:
            answer = None
        else:
            answer = self._read()
        if answer is None:
            self.close()
            raise LauncherError("the process from which attempts are forked has ended")
        return AttemptProcess(self, answer["pid"])

    def wait_for_end(self, timeout: float) -> End | None:
        """Wait for the end of the process that was launched last; ``None`` if it still runs."""
        assert self._template is not None
        assert self._template.stdout is not None
        if not self._unread and not select.select([self._template.stdout], [], [], timeout)[0]:
            return None
        answer = self._read()
        if answer is None:
            self.close()
            return End(None)
        return End(**answer)

    def _read(self) -> dict[str, Any] | None:
        """Return the next answer; ``None`` if the process has ended."""
        assert self._template is not None
        assert self._template.stdout is not None
        while b"\n" not in self._unread:
            data = os.read(self._template.stdout.fileno(), 65536)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Terminate all processes."""
        if self._template is None:
            return
        # The process of an attempt dies with this one.
        self._template.kill()
        self._template.wait()
        for pipe in (self._template.stdin, self._template.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                # What was written last cannot be sent any more.
                pipe.close()
        self._template, self._unread = None, b""


class _NotInstalledError(GufeNotInstalledError):
    """gufe is not installed, as another process has found."""

    def __init__(self, message: str) -> None:
        ImportError.__init__(self, message)


class AttemptProcess:
    """The process of an attempt, which leads a process group."""

    def __init__(self, launcher: Launcher, pid: int) -> None:
        self._launcher = launcher
        self.pid = pid
        self.end: End | None = None

    def wait(self, timeout: float) -> bool:
        """Wait for its end, and return whether it has ended."""
        if self.end is None:
            self.end = self._launcher.wait_for_end(timeout)
        return self.end is not None

    def stop(self, grace: float = GRACE) -> None:
        """Stop it and everything that it has started: first asked to, then killed.

        Parameters
        ----------
        grace : float, default 5
            Seconds between the request and the kill.
        """
        self._signal(signal.SIGTERM)
        if not self.wait(grace):
            self._signal(signal.SIGKILL)
            self.wait(KILLED)

    def _signal(self, number: int) -> None:
        if self.end is None:
            with suppress(ProcessLookupError):
                # It may be just ending.
                os.killpg(self.pid, number)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the addresses and credentials of the servers."""
    return {
        name: value
        for name, value in environment.items()
        if name == MODULES_VARIABLE or not name.startswith(SECRET_PREFIXES)
    }
