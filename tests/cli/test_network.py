"""`alchemistore network`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from alchemistore import Scope, StateStore
from tests.cli.conftest import Run
from tests.support.files import chain, nested, quickrun, run as run_edge
from tests.support.gufe_classes import network, transformation


def test_add_prints_the_network(run: Run, store: StateStore, scope: Scope, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    path = tmp_path / "network.json.gz"
    path.write_bytes(gzip.compress(chain(network()).encode()))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    [stored] = store.query_networks()
    assert (done.exit_code, done.stdout) == (0, f"Network {stored}\n")
    done = run(
        "network", "add", "-", "-s", str(scope), "--url", url, "--json", typed=chain(network())
    )
    assert json.loads(done.stdout) == {"network": str(stored), "tasks": [], "new_tasks": 0}


def test_add_refuses_a_quickrun_result_without_its_transformation(
    run: Run, store: StateStore, scope: Scope, tmp_path: Path
) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    path = tmp_path / "result.json"
    path.write_text(quickrun(transformation(), run_edge(transformation(), tmp_path)))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    assert done.exit_code == 2
    assert "--transformation KEY" in done.stderr
    path.write_text(nested(transformation().stateA))
    done = run("network", "add", str(path), "--scope", str(scope), "--url", url)
    assert done.exit_code == 2
    assert "ChemicalSystem, which cannot be added" in done.stderr
