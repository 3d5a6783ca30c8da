"""The programs in docs/alchemiscale.md."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing

from alchemistore import CredentialedComputeIdentity, CredentialedUserIdentity, StateStore
from tests.alchemiscale.conftest import CHECKOUT, environment

INSTALL = "from alchemistore.alchemiscale import install\ninstall()\n"


def program(text: str) -> str:
    """The program in the document that contains a text."""
    document = (CHECKOUT / "docs" / "alchemiscale.md").read_text()
    [found] = [
        code for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if text in code
    ]
    return str(found)


def test_identities_are_moved_with_their_keys_and_scopes(
    server_python: str, store: StateStore, pooled_database: str, database: str
) -> None:
    people = [
        CredentialedUserIdentity(
            identifier="alice", hashed_key="$2b$04$a", scopes=["a-*-*", "a-b-c"], email="a@b.org"
        ),
        CredentialedUserIdentity(identifier="bob", hashed_key="$2b$04$b", disabled=True),
        CredentialedComputeIdentity(identifier="alice", hashed_key="$2b$04$c", scopes=["*-*-*"]),
    ]
    for one in people:
        store.create_credentialed_entity(one)

    def run(code: str, url: str, given: str) -> str:
        done = subprocess.run(
            [server_python, "-c", code],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env=environment(NEO4J_URL=url, NEO4J_USER=" ", NEO4J_PASS=" "),
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    saved = run(INSTALL + program("list_credentialed_entities"), pooled_database, "")
    assert len(saved.splitlines()) == len(people)
    run(program("create_credentialed_entity"), database, saved)
    with closing(StateStore(database)) as moved:
        for one in people:
            assert moved.get_credentialed_entity(one.identifier, type(one)) == one
