"""Processes that outlive the one that starts them, and what several starters need to agree."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from alchemistore.errors import StoreUnavailableError

LOCK_TIMEOUT = 300.0
LOG_LIMIT = 10_000_000
# Below the ports that Linux gives to outgoing connections, so that a server finds its port free again later.
PORTS = range(20_000, 32_000)
INSTALL_HINT = "pip install 'alchemistore[embedded]'"

# A background job of sh is nobody's child once sh has gone, so no starter has to reap it. Output goes to the log.
_DETACH = '"$@" </dev/null 1>&2 & echo $!'


@contextmanager
def exclusive(lock: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Be the only process in the block; the kernel lets go of the lock of a process that was killed."""
    deadline = time.monotonic() + timeout
    with lock.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"another process has been starting or stopping the servers for {timeout:.0f} s;"
                        f" find it with: fuser {lock}"
                    ) from error
                time.sleep(0.02)
        yield


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    user: str | None = None,
) -> psutil.Process | None:
    """Start a daemon in a session of its own, with its output appended to `log`; ``None`` if it ended at once."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        shell = run(
            ["/bin/sh", "-c", _DETACH, "sh", *command],
            cwd=cwd,
            environment=environment,
            user=user,
            stderr=handle,
        )
    finally:
        os.close(handle)
    try:
        return psutil.Process(int(shell.stdout))
    except psutil.NoSuchProcess:
        return None


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a session of its own, as another user if one is named."""
    entry = None if user is None else pwd.getpwnam(user)
    return subprocess.run(  # noqa: S603 (the programs are ours, and no shell reads the arguments)
        list(command),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        check=False,
        user=entry and entry.pw_uid,
        group=entry and entry.pw_gid,
        extra_groups=entry and [],
    )


def alive(process: psutil.Process) -> bool:
    """Tell whether it runs; one that ended and that nobody reaped does not."""
    try:
        # The first thread may have ended while others still hold files and ports.
        return process.is_running() and (
            process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
        )
    except psutil.NoSuchProcess:
        return False


def process_with(pid: int | None, argument: str) -> psutil.Process | None:
    """Give the living process of that id if `argument` is on its command line: the id alone may be another's by now."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if argument in process.cmdline() and alive(process) else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def search_process(name: str, argument: str) -> psutil.Process | None:
    """Find a living process by its name and one argument."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if (
            process.info["name"] == name
            and argument in (process.info["cmdline"] or ())
            and alive(process)
        ):
            return process
    return None


def wait_until(ready: Callable[[], bool], process: psutil.Process | None, timeout: float) -> bool:
    """Wait for the daemon to be ready; false when it ended or the time (in seconds) is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if ready():
            return True
        if process is None or not alive(process):
            return False
        time.sleep(0.02)
    return False


def end(process: psutil.Process, signals: Sequence[tuple[int, float]]) -> None:
    """Send one signal after the other, each with its seconds to obey, until the process is gone."""
    for signal, timeout in signals:
        try:
            process.send_signal(signal)
        except psutil.NoSuchProcess:
            return
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not alive(process):
                return
            time.sleep(0.02)
    raise StoreUnavailableError(
        f"process {process.pid} does not end; it may wait for a disk or be paused"
    )


def last_lines(log: Path, lines: int = 15) -> str:
    """Give the end of a log."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])


def free_ports(count: int, offset: int = 0) -> list[int]:
    """Find ports of 127.0.0.1 that nobody uses; for the first one, the port `offset` further on is free too."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = PORTS.start + secrets.randbelow(len(PORTS))
            taken = _hold(held, port) and (ports or not offset or _hold(held, port + offset))
            if taken:
                ports.append(port)
        return ports


def ports_are_free(ports: Sequence[int]) -> bool:
    """Tell whether all these ports of 127.0.0.1 can be taken."""
    with ExitStack() as held:
        return all(_hold(held, port) for port in ports)


def _hold(held: ExitStack, port: int) -> bool:
    sock = held.enter_context(socket.socket())
    # As servers do: a port whose last connections are only fading out counts as free.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
