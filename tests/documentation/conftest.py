"""Code blocks of the documentation, and a small campaign that they can be run on."""

from __future__ import annotations

import ast
import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from alchemistore import (
    ComputeManagerRegistration,
    ComputeManagerStatus,
    CredentialedComputeIdentity,
    CredentialedUserIdentity,
    GufeKey,
    ProtocolDAGResultRef,
    S3ObjectStore,
    Scope,
    StateStore,
    StrategyState,
    get_s3os,
)
from alchemistore.cli import main
from alchemistore.local import LocalServers
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings, get_settings
from tests.support.campaigns import ZERO, campaign, register, star
from tests.support.files import chain
from tests.support.gufe_classes import Ball
from tests.support.servers import discard_bucket, variables

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *CHECKOUT.glob("docs/**/*.md")]
)
SCOPE = Scope("my_org", "my_campaign", "my_project")
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*?) -->\n)?^```(?P<language>\S*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Stands in for the program, because a new process for each command takes a second.
PROGRAM = """\
import json, os, re, socket, sys
piped = not os.path.samestat(os.fstat(0), os.stat(os.environ["NOTHING"]))
question = {
    "arguments": sys.argv[1:],
    "typed": sys.stdin.read() if piped else None,
    "environment": {n: v for n, v in os.environ.items() if re.match("_?ALCHEMISTORE_|AWS_", n)},
}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["PROGRAM_SOCKET"])
    server.sendall(json.dumps(question).encode())
    server.shutdown(socket.SHUT_WR)
    answer = json.load(server.makefile())
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["code"])
"""


@dataclass(frozen=True)
class Block:
    """A block of code in a document.

    Attributes
    ----------
    reason : str or None
        Why it is not run.
    """

    document: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.document.relative_to(CHECKOUT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document."""
    text = document.read_text()
    return [
        Block(
            document,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["code"],
            found["reason"],
        )
        for found in BLOCK.finditer(text)
    ]


def forget_settings() -> None:
    """Read the settings of the environment again when they are needed."""
    get_settings.cache_clear()
    get_s3_settings.cache_clear()


def parse(arguments: list[str]) -> None:
    """Raise an error if the program does not know the command, an option or a value."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    # Without the variables that a user has set.
    with contextlib.suppress(click.MissingParameter):
        # With the settings of the program, because click remembers the option for help.
        command.make_context(" ".join(arguments), rest, **main.context_settings)


@dataclass
class Reader:
    """Somebody who types what a page says, on a campaign of their own.

    Attributes
    ----------
    names : dict of str to Any
        The variables of the Python blocks.
    keys : dict of str to str
        A key for each kind of object, which a key that ends with dots stands for.
    tasks : iterator of str
        Waiting tasks on no hub. Each block has its own, because it may change it.
    answers : list of dict
        What the commands have printed, and their exit codes.
    """

    directory: Path
    environment: dict[str, str]
    names: dict[str, Any]
    keys: dict[str, str]
    tasks: Iterator[str]
    answers: list[dict[str, Any]] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run a block."""
        if block.language == "python":
            self._execute(block)
        else:
            self._type(block)

    def _execute(self, block: Block) -> None:
        lines = block.code.splitlines()
        said: list[tuple[object, object]] = []

        def printed(*values: object) -> None:
            comment = lines[sys._getframe(1).f_lineno - 1].partition("  # ")[2]
            with contextlib.suppress(SyntaxError, ValueError):
                said.append((values[0], ast.literal_eval(comment)))

        self.names["print"] = printed
        exec(compile(block.code, str(block), "exec"), self.names)
        for value, expected in said:
            assert value == expected, block

    def _type(self, block: Block) -> None:
        program = self.directory / "alchemistore"
        program.write_text(PROGRAM)
        keys = {"Task": next(self.tasks), **self.keys}
        code = re.sub(r"\b([A-Z]\w+)-\.\.\.", lambda found: keys[found[1]], block.code)
        function = f'alchemistore() {{ "{sys.executable}" -I -S "{program}" "$@"; }}\n'
        for name in ("apt-get", "conda", "docker", "make", "pip", "pip3", "python", "systemctl"):
            function += f"{name}() {{ echo {name}: command not found in a test >&2; exit 127; }}\n"
        nothing = self.directory / "nothing"
        nothing.touch()
        with closing(self._serve()) as server, nothing.open() as unused:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", function + code],
                cwd=self.directory,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.directory),
                    "PROGRAM_SOCKET": server.getsockname(),
                    "NOTHING": str(nothing),
                    **self.environment,
                },
                stdin=unused,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        assert "command not found" not in done.stderr, f"{block}: {done.stderr}"
        for answer in self.answers:
            assert answer["code"] in answer["allowed"], f"{block}: {answer}"
        assert self.answers or done.returncode == 0, f"{block}: {done.stderr}"
        self.answers.clear()

    def _serve(self) -> socket.socket:
        """Start to answer the program, one command after the other."""
        server = socket.socket(socket.AF_UNIX)
        path = self.directory / "socket"
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    question = json.load(client.makefile())
                    client.sendall(json.dumps(self._answer(**question)).encode())

        threading.Thread(target=answer, daemon=True).start()
        return server

    def _answer(
        self, arguments: list[str], typed: str | None, environment: dict[str, str]
    ) -> dict[str, Any]:
        if typed is None:
            typed = "a key\na key\n" if arguments[:2] == ["identity", "add"] else "y\n"
        if "--watch" in arguments or (
            arguments[:1] in (["maintain"], ["metrics"])
            and not {"--once", "--print"} & {*arguments}
        ):
            # It would run until it is stopped.
            parse(arguments)
            return {"stdout": "", "stderr": "", "code": 0}
        forget_settings()
        done = CliRunner().invoke(
            main, arguments, input=typed, env=environment, prog_name="alchemistore"
        )
        forget_settings()
        answer = {"stdout": done.stdout, "stderr": done.stderr, "code": done.exit_code}
        if done.exception and not isinstance(done.exception, SystemExit):
            answer |= {"code": 99, "stderr": repr(done.exception)}
        # The examination of a small campaign of a test finds something to complain about.
        allowed = [0, 1] if arguments[:1] == ["doctor"] else [0]
        self.answers.append({"arguments": arguments, **answer, "allowed": allowed})
        return answer


@pytest.fixture(scope="module")
def shared_bucket(s3_server: S3ObjectStoreSettings) -> Iterator[S3ObjectStoreSettings]:
    """A bucket for all tests of a module, because making one takes long."""
    settings = s3_server.model_copy(update={"AWS_S3_BUCKET": f"test-{uuid.uuid4().hex}"})
    yield settings
    discard_bucket(settings)


@pytest.fixture(scope="module")
def shared_objects(shared_bucket: S3ObjectStoreSettings) -> S3ObjectStore:
    """The object store in the shared bucket; each test removes its objects."""
    objects = get_s3os(shared_bucket)
    objects.initialize()
    return objects


@pytest.fixture
def reader(
    database: str,
    local_servers: LocalServers,
    shared_bucket: S3ObjectStoreSettings,
    shared_objects: S3ObjectStore,
    cheap_hashes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    """Somebody with a campaign: nine tasks, of which one runs, one failed and one is complete."""
    store = StateStore(database)
    made = campaign(store, SCOPE, tasks=9, name="wells")
    register(store, "service-1")
    assert len(store.claim_taskhub_tasks(made.hub, "service-1", count=3)) == 3
    failed, done, _ = store.query_tasks(status="running")
    result = ProtocolDAGResultRef(
        obj_key=GufeKey(f"ProtocolDAGResult-{ZERO}"), scope=SCOPE, ok=True, location="result.json"
    )
    # A result may be any bytes to the object store.
    shared_objects.bucket_prefix.put("result.json", b"{}", "application/json")
    store.settle_task(done, result, "service-1")
    failure = result.model_copy(update={"obj_key": f"ProtocolDAGResult-{'1' * 32}", "ok": False})
    store.settle_task(failed, failure, "service-1", tracebacks=["Particle coordinate is NaN"])
    store.set_network_strategy(made.network, Ball("strategy"), StrategyState())
    manager = ComputeManagerRegistration.from_now(f"my_manager-{ZERO}")
    store.update_compute_manager_status(
        store.register_computemanager(manager), ComputeManagerStatus.ERROR, "no more nodes"
    )
    for cls in (CredentialedUserIdentity, CredentialedComputeIdentity):
        store.create_credentialed_entity(cls(identifier="bob", hashed_key="$2b$04$x"))
    # The path of a socket must be short.
    directory = Path(tempfile.mkdtemp(prefix="reader-"))
    for name in ("network.json", f"AlchemicalNetwork-{ZERO}-{SCOPE}.json"):
        (directory / name).write_text(chain(star(3, name="more wells")))
    (directory / "result.json").write_text(f'[["ProtocolDAGResult-{"2" * 32}", {{}}]]')
    (directory / "network.json.gz").write_bytes(
        gzip.compress((directory / "network.json").read_bytes())
    )
    environment = {
        "ALCHEMISTORE_DIRECTORY": str(local_servers.directory),
        **variables(database, shared_bucket),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(directory)
    forget_settings()
    waiting = [task for task in made.tasks if task not in (failed, done)]
    names = {
        "store": store,
        "objects": shared_objects,
        "scope": SCOPE,
        "network": made.network,
        "hub": made.hub,
        "task": waiting[-1],
        "tasks": waiting,
        "transformation": made.transformations[0],
        "service": "service-1",
        "alchemical_network": star(3, name="new wells", mode="fail"),
        "result_key": f"ProtocolDAGResult-{'2' * 32}",
    }
    keys = {
        "AlchemicalNetwork": made.network,
        "TaskHub": made.hub,
        "Transformation": made.transformations[0],
        "ProtocolDAGResultRef": store.get_task_results(done)[0],
    }
    yield Reader(
        directory,
        environment,
        names,
        {name: str(key) for name, key in keys.items()},
        iter([str(task) for task in store.create_tasks(made.transformations * 4)]),
    )
    forget_settings()
    names["store"].close()
    store.close()
    shared_objects.reset()
    shutil.rmtree(directory)
