"""The code and the files that the README names exist and work."""

import re
from pathlib import Path

import pytest

from alchemistore.settings import get_settings
from tests.support.campaigns import star

README = Path(__file__).parents[2] / "README.md"


def test_library_example_runs(
    pooled_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    get_settings.cache_clear()
    names = {"alchemical_network": star(3), "result_key": "ProtocolDAGResult-" + "0" * 32}
    exec(code, names)
    get_settings.cache_clear()
    printed = capsys.readouterr().out
    assert "{'waiting': 8, 'complete': 1}" in printed or "{'complete': 1, 'waiting': 8}" in printed
    names["store"].close()


def test_every_file_it_names_exists() -> None:
    named = re.findall(
        r"`((?:alchemistore|migrations|bench|examples)/[\w/.]*)`", README.read_text()
    )
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
