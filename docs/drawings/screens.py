"""Take the pictures of commands that the documentation shows: `python docs/drawings/screens.py`.

It starts a private PostgreSQL, fills it with a campaign in the middle of its life, and runs the
commands in a terminal. Then it runs the demo, unless the argument is `--without-demo`. Keys, times
and estimates differ each time.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "examples")]

from alchemistore import (  # noqa: E402  (the packages of this checkout)
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
)
from alchemistore.local import LocalServers  # noqa: E402
from harmonic.protocol import HarmonicProtocol, HarmonicSettings  # noqa: E402
from harmonic.system import build_network  # noqa: E402

HOME = Path(__file__).parent
COLUMNS = 100
# The name of each picture, and the command; `{failed}` and `{stuck}` are keys of tasks.
SCREENS = {
    "status": "alchemistore status",
    "doctor": "alchemistore doctor --no-objects",
    "list": "alchemistore task list --status running --limit 3",
    "history": "alchemistore task history {failed}",
    "why": "alchemistore task why {stuck}",
}
SERVICES = [f"gpu-{number:02}" for number in range(1, 7)]
PARTS = (("solvation", "tyk2", 3), ("solvation", "mcl1", 2))


def fill(store: StateStore) -> dict[str, str]:
    """Fill the store, and return the keys of some tasks."""
    rng = random.Random(7)  # noqa: S311  (the same campaign each time)
    now = datetime.now(UTC)
    for number, name in enumerate(SERVICES):
        beat = now - timedelta(minutes=14 if number == 5 else 0.5)
        registration = ComputeServiceRegistration.from_now(name, hostname=f"node{number}")
        store.register_computeservice(registration.model_copy(update={"heartbeat": beat}))
    keys = {}
    for org, project, repeats in PARTS:
        scope = Scope(org, "benchmark", project)
        network, hub, _ = store.assemble_network(
            build_network(HarmonicProtocol(HarmonicSettings()), name=f"{project} ligands"), scope
        )
        transformations = store.get_network_transformations(network)
        tasks = store.create_tasks(transformations * repeats, creator="alice")
        store.action_tasks(tasks, hub)
        if repeats == 3:
            store.add_task_restart_patterns(hub, ["Particle coordinate is NaN"], 2)
        count = 0.55 * len(tasks)
        for number in range(int(count)):
            service = rng.choice(SERVICES[:5])
            [task] = store.claim_taskhub_tasks(hub, service)
            assert task is not None
            if number < count - 6:
                ok = rng.random() > 0.08
                settle(store, task, ok, service, rng)
                if not ok and repeats == 3:
                    keys["failed"] = str(task)
        waiting = store.query_tasks(scope=scope, status="waiting")[0]
        transformation, _ = store.get_task_transformation(waiting, return_gufe=False)
        keys["stuck"] = str(store.create_task(transformation, extends=waiting, creator="alice"))
    return keys


def settle(store: StateStore, task: ScopedKey, ok: bool, service: str, rng: random.Random) -> None:
    """Store a result of a task that a service has claimed."""
    key = f"ProtocolDAGResult-{rng.getrandbits(128):032x}"
    ref = ProtocolDAGResultRef(obj_key=key, scope=task.scope, ok=ok, location=f"results/{key}")
    traceback = "Traceback (most recent call last):\n  ...\nException: Particle coordinate is NaN"
    store.settle_task(task, ref, service, tracebacks=None if ok else [traceback])


def run_in_terminal(command: str, directory: Path, environment: dict[str, str]) -> str:
    """Return what a command prints to a terminal."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    process = subprocess.Popen(  # noqa: S602  (a constant)
        command,
        shell=True,
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        cwd=directory,
    )
    os.close(child)
    printed = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        printed += part
    process.wait()
    os.close(parent)
    return printed.decode().replace("\r\n", "\n").replace(f"{directory}/", "~/")


def picture(command: str, printed: str) -> str:
    """Return a picture of a terminal as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    # Progress that a terminal would have removed.
    shown = [
        line for line in printed.rstrip().split("\n") if not re.search(r"[\u2800-\u28ff]", line)
    ]
    console.print(Text.from_ansi("\n".join([f"$ {command}", *shown])), soft_wrap=False)
    svg = console.export_svg(title="", unique_id="screen")
    # The font would be fetched from another site.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def copy_plot(source: Path, target: Path) -> None:
    """Copy a picture with few colours, which takes a quarter of the space."""
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(64).save(target, optimize=True)


def main() -> None:
    """Take all pictures."""
    directory = Path(tempfile.mkdtemp(prefix="alchemistore-screens-"))
    directory.chmod(0o755)
    servers = LocalServers(directory / "data")
    servers.start(s3=False)
    try:
        url = servers.environment()["ALCHEMISTORE_DATABASE_URL"]
        with closing(StateStore(url)) as store:
            store.initialize()
            keys = fill(store)
            network = store.query_networks()[0]
            with store.engine.connect() as connection:
                connection.exec_driver_sql("ANALYZE")
                connection.commit()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "ALCHEMISTORE_DATABASE_URL": url,
        }
        for name, template in SCREENS.items():
            command = template.format(**keys)
            printed = run_in_terminal(command, directory, environment)
            (HOME / f"{name}.svg").write_text(picture(command, printed))
        run_in_terminal(f"alchemistore network plot {network} plot.png", directory, environment)
        copy_plot(directory / "plot.png", HOME / "network.png")
        if "--without-demo" not in sys.argv:
            # The second time, it prints its results only.
            command = "alchemistore demo --directory demo"
            run_in_terminal(command, directory, environment)
            printed = run_in_terminal(command, directory, environment)
            (HOME / "demo.svg").write_text(picture("alchemistore demo", printed))
            copy_plot(directory / "demo" / "free-energies.png", HOME / "demo-plot.png")
    finally:
        servers.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
