"""Start, find and stop daemons; lock a directory and choose ports for them."""

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
# Below the ports that Linux uses for outgoing connections, so that a server can reuse its port
# after a restart.
PORTS = range(20_000, 32_000)
INSTALL_HINT = "pip install 'alchemistore[embedded]'"

# The background job of a shell that has ended is adopted by init, so that the process that
# started it need not reap it. Its output goes to the log.
_DETACH = '"$@" </dev/null 1>&2 & echo $!'


@contextmanager
def exclusive(lock: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a lock for the block. The kernel releases the lock of a killed process.

    Parameters
    ----------
    lock : Path
        The lock file; created if it does not exist.
    timeout : float, default 300
        How long to wait for the lock, in seconds.

    Raises
    ------
    StoreUnavailableError
        If another process holds the lock for longer than `timeout`.
    """
    deadline = time.monotonic() + timeout
    with lock.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        "another process has been starting or stopping the servers for"
                        f" {timeout:.0f} s; find it with: fuser {lock}"
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
    """Start a daemon in its own session and append its output to `log`.

    Returns
    -------
    psutil.Process or None
        ``None`` if the process has ended already.
    """
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
    """Run a command in its own session and wait for it, optionally as another user."""
    entry = None if user is None else pwd.getpwnam(user)
    return subprocess.run(  # noqa: S603 (trusted programs, and no shell)
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
    """Check whether a process is running. A zombie is not."""
    try:
        # The first thread may have ended while other threads still hold files and ports.
        return process.is_running() and (
            process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
        )
    except psutil.NoSuchProcess:
        return False


def process_with(pid: int | None, argument: str) -> psutil.Process | None:
    """Return the running process with an id if `argument` is on its command line.

    The id alone is not enough, because another process may have it by now.
    """
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if argument in process.cmdline() and alive(process) else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def search_process(name: str, argument: str) -> psutil.Process | None:
    """Return a running process with this name and argument, or ``None``."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if (
            process.info["name"] == name
            and argument in (process.info["cmdline"] or ())
            and alive(process)
        ):
            return process
    return None


def wait_until(ready: Callable[[], bool], process: psutil.Process | None, timeout: float) -> bool:
    """Wait until a daemon is ready.

    Returns
    -------
    bool
        False if the process has ended, or it is not ready after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if ready():
            return True
        if process is None or not alive(process):
            return False
        time.sleep(0.02)
    return False


def end(process: psutil.Process, signals: Sequence[tuple[int, float]]) -> None:
    """Stop a process.

    Parameters
    ----------
    process : psutil.Process
        The process.
    signals : sequence of (int, float)
        The signals to send, one after the other, each with the seconds to wait for the end of the
        process.

    Raises
    ------
    StoreUnavailableError
        If the process does not end, or belongs to another user.
    """
    for signal, timeout in signals:
        try:
            process.send_signal(signal)
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied as error:
            raise StoreUnavailableError(
                f"process {process.pid} belongs to another user and cannot be stopped by user"
                f" {os.geteuid()}; stop it as the user that started it"
            ) from error
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not alive(process):
                return
            time.sleep(0.02)
    raise StoreUnavailableError(
        f"process {process.pid} does not end; check whether it is suspended or waits for a disk"
    )


def last_lines(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])


def free_ports(count: int, offset: int = 0) -> list[int]:
    """Return free ports on 127.0.0.1. The port `offset` above the first of them is free, too."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = PORTS.start + secrets.randbelow(len(PORTS))
            taken = _hold(held, port) and (ports or not offset or _hold(held, port + offset))
            if taken:
                ports.append(port)
        return ports


def ports_are_free(ports: Sequence[int]) -> bool:
    """Check whether all these ports on 127.0.0.1 are free."""
    with ExitStack() as held:
        return all(_hold(held, port) for port in ports)


def _hold(held: ExitStack, port: int) -> bool:
    sock = held.enter_context(socket.socket())
    # As servers do: a port with connections in TIME_WAIT only counts as free.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
