"""The accounts of the benchmark over HTTP."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from bench.http_side import RECORD, Account, read_account


def test_call_inside_a_call_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each look at the clock takes a second.
    seconds = count()
    monkeypatch.setattr("time.thread_time", lambda: float(next(seconds)))
    account = Account(tmp_path)
    inner = account.wrap(lambda: "inner")
    outer = account.wrap(lambda: f"outer {inner()}")
    assert outer() == "outer inner"
    assert read_account(tmp_path) == (1.0, 1)
    assert inner() == "inner"
    assert read_account(tmp_path) == (2.0, 2)


def test_call_that_fails_counts(tmp_path: Path) -> None:
    account = Account(tmp_path)
    with pytest.raises(ZeroDivisionError):
        account.wrap(lambda: 1 / 0)()
    assert read_account(tmp_path)[1] == 1


def test_accounts_of_all_processes_are_added(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(RECORD.pack(0.5, 3))
    (tmp_path / str(os.getpid())).write_bytes(RECORD.pack(0.25, 2))
    assert read_account(tmp_path) == (0.75, 5)
