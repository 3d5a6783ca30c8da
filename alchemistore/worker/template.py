"""The process from which the processes of attempts are forked: ``python -m ...template PID``.

Importing gufe takes long, so it is imported once. A process that was forked shares nothing with
later ones: its memory is a copy. :class:`~alchemistore.worker.launcher.Launcher` starts this one.

Requests and answers are lines of JSON. After a request, the process id of the attempt is printed,
and its end when it has ended. Only one attempt runs at a time.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from alchemistore.errors import GufeNotInstalledError

PR_SET_PDEATHSIG = 1
# Those that a worker handles.
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the one that started it ends, however that ends.

    Parameters
    ----------
    parent : int
        The process id of the parent.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before that.
        os._exit(1)


def main() -> None:
    """Start a process for each request on standard input, until the worker ends."""
    # Ctrl-C and the signals of a batch queue go to all processes; the worker decides.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # These threads are those of numerical libraries, which handle forks.
    warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
    die_with_parent(int(sys.argv[1]))
    from alchemistore.worker.attempt import load

    try:
        load()
    except GufeNotInstalledError as error:
        _say({"error": str(error)})
        return
    _say({"ready": True})
    while line := sys.stdin.readline():
        _serve(json.loads(line))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _serve(request: dict[str, Any]) -> None:
    template = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_attempt(template, request)
    _lead_group(pid)
    _say({"pid": pid})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # Its id is not given to another process before it is collected, so this ends only what it has
    # left behind.
    _end_group(pid)
    _, status, usage = os.wait4(pid, 0)
    _say(
        {
            "code": os.waitstatus_to_exitcode(status),
            "cpu": usage.ru_utime + usage.ru_stime,
            "memory": usage.ru_maxrss * 1024,
        }
    )


def _lead_group(pid: int) -> None:
    # Both processes do this, because either may be first.
    try:
        os.setpgid(pid, pid)
    except (ProcessLookupError, PermissionError):
        # It has ended already, or has done so itself.
        return


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nothing is left.
        return


def _become_attempt(template: int, request: dict[str, Any]) -> None:
    """Run the attempt in this process, which has just been forked, and end the process."""
    code = 1
    try:
        _lead_group(0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(template)
        _redirect(request["log"])
        if request["memory"] is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (request["memory"], request["memory"]))
        os.chdir(request["directory"])
        from alchemistore.worker.attempt import perform

        code = perform(Path(request["directory"]), Path(request["log"]), request["retries"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Nothing of the template must run in this process, such as its loop.
        os._exit(code)


def _redirect(log: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)


if __name__ == "__main__":
    main()
