"""What is said where alchemiscale, gufe or stratocaster is missing."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError

import pytest

from alchemistore.alchemiscale import install, substitution
from alchemistore.errors import AlchemiscaleNotInstalledError, AlchemistoreError


def installed(monkeypatch: pytest.MonkeyPatch, *names: str, gufe: str = "1.9.0") -> None:
    """Let exactly these packages be installed."""
    for name in substitution.REQUIRED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(
        substitution,
        "find_spec",
        lambda name: ModuleSpec(name, None) if name in names else None,
    )
    monkeypatch.setattr(substitution, "version", lambda name: gufe)


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ((), "alchemiscale and gufe and stratocaster, which are not installed"),
        (("alchemiscale",), "gufe and stratocaster, which are not installed"),
        (("alchemiscale", "gufe"), "stratocaster, which is not installed"),
        (("gufe", "stratocaster"), "alchemiscale, which is not installed"),
    ],
)
def test_missing_packages_are_named_with_their_source(
    monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], missing: str
) -> None:
    installed(monkeypatch, *present)
    before = list(sys.meta_path)
    with pytest.raises(AlchemiscaleNotInstalledError) as raised:
        install()
    assert f"needs {missing}: install gufe 1.x and stratocaster with 'conda install" in str(
        raised.value
    )
    assert "pip install 'alchemistore[server]'" in str(raised.value)
    assert isinstance(raised.value, AlchemistoreError)
    assert isinstance(raised.value, ImportError)
    assert sys.meta_path == before


def test_gufe_0_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "alchemiscale", "gufe", "stratocaster", gufe="0.4")
    with pytest.raises(AlchemiscaleNotInstalledError, match=r"gufe 1\.x instead of 0\.4"):
        install()


def test_with_all_packages_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "alchemiscale", "gufe", "stratocaster")
    substitution.require_installed()


def test_gufe_without_metadata_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "alchemiscale", "gufe", "stratocaster")

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(substitution, "version", version)
    substitution.require_installed()
