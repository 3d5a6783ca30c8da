"""Every call works whatever the defaults of the database and of the role are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import URL, text

from alchemistore import Settings, StateStore, StateStoreError, StoreUnavailableError
from alchemistore.database.engine import database_url
from tests.conftest import NewDatabase
from tests.machine.test_machine import Machine, run_machine
from tests.support.calls import (
    ABOUT_ONE,
    CALLS,
    CASES,
    Act,
    Prepare,
    World,
    arguments,
    make_user,
    make_world,
)
from tests.support.campaigns import campaign, chain, register
from tests.support.concurrency import Running
from tests.support.databases import all_rows, rolled_back
from tests.support.results import ref
