"""Records in notebooks, as dicts, and as data frames."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from alchemistore import (
    Attempt,
    ComputeServiceDetails,
    ComputeServiceID,
    ComputeServiceRegistration,
    NetworkDetails,
    NetworkStateEnum,
    PackageNotInstalledError,
    Quota,
    Records,
    Scope,
    ScopedKey,
    StatusChange,
    StatusCounts,
    Task,
    TaskDetails,
    TaskHistory,
    TaskHub,
    TaskStatusEnum,
    records,
    to_pandas,
)
from alchemistore.models import display

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASK = ScopedKey.from_str("Task-" + "0" * 32 + "-org-campaign-project")
NETWORK = ScopedKey.from_str("AlchemicalNetwork-" + "1" * 32 + "-org-campaign-project")
# A text of a user that would be a script, and close tags and attributes.
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Reader(HTMLParser):
    """Collects the tags and the text of a page, and checks that tags are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.attributes: set[str] = set()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def details(**changes: Any) -> TaskDetails:
    fields: dict[str, Any] = {
        "task": TASK,
        "status": "error",
        "status_changed_at": TIME,
        "reason": "no luck",
        "num_attempts": 2,
        "num_results": 0,
        "num_failures": 2,
    }
    return TaskDetails(**{**fields, **changes})


def network(**changes: Any) -> NetworkDetails:
    fields: dict[str, Any] = {
        "network": NETWORK,
        "name": "tyk2",
        "state": "active",
        "created_at": TIME,
        "num_transformations": 3,
        "tasks": {"waiting": 1, "complete": 2},
    }
    return NetworkDetails(**{**fields, **changes})


ATTEMPT = Attempt(task=TASK, attempt=1, service=ComputeServiceID("service"), claimed_at=TIME)
SERVICE = ComputeServiceDetails(
    registration=ComputeServiceRegistration(
        identifier=ComputeServiceID("service"), registered=TIME, heartbeat=TIME, hostname=EVIL
    ),
    num_tasks=1,
    silence=timedelta(seconds=61.2),
)


@pytest.mark.parametrize(
    "shown",
    [
        StatusCounts({EVIL: 1, "waiting": 2}),
        Records([details(reason=EVIL)]),
        Records([{"x": EVIL}, EVIL]),
        details(reason=EVIL),
        network(name=EVIL, tasks={EVIL: 1}),
        Records([network(name=EVIL), None]),
        SERVICE,
        Records([SERVICE]),
        Task(creator=EVIL),
        TaskHub(network=EVIL),
        ATTEMPT.model_copy(update={"environment": {EVIL: EVIL}, "hostname": EVIL}),
        Records([["list", EVIL]]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_texts_are_escaped(shown: Any) -> None:
    page = shown._repr_html_()
    read = Reader(page)
    assert not {"script", "img"} & {*read.tags}
    assert read.attributes <= {"style", "title"}
    assert "onerror=alert(1)>" not in page
    assert EVIL in read.text


def test_counts_are_a_dict_with_a_bar() -> None:
    counts = StatusCounts({"waiting": 1, "complete": 1200})
    assert counts == {"waiting": 1, "complete": 1200}
    assert isinstance(counts, dict)
    assert json.loads(json.dumps(counts)) == counts
    assert pickle.loads(pickle.dumps(counts)) == copy.copy(counts) == counts
    read = Reader(counts._repr_html_())
    assert read.text.split() == ["1,200", "complete,", "1", "waiting"]
    assert counts.records() == [
        {"status": "waiting", "tasks": 1},
        {"status": "complete", "tasks": 1200},
    ]
    assert Reader(StatusCounts()._repr_html_()).text == "no tasks"
    assert Reader(StatusCounts(waiting=0)._repr_html_()).text == "no tasks"


def test_statuses_of_bars_are_all_there_are() -> None:
    assert {*display.COLOURS} == {*TaskStatusEnum}


def test_records_are_a_list_with_a_table() -> None:
    listed = Records([details(), None, details(service="a service")])
    assert listed == [details(), None, details(service="a service")]
    assert isinstance(listed, list)
    read = Reader(listed._repr_html_())
    assert read.tags.count("tr") == 4
    for text in (str(TASK), "2026-01-02 03:04:05", "no luck", "a service", "attempts"):
        assert text in read.text
    # Keys that are not the subject of a row are short; the whole key is in the title.
    hub = ScopedKey.from_str("TaskHub-" + "2" * 32 + "-org-campaign-project")
    page = Records([network(taskhub=hub)])._repr_html_()
    assert str(NETWORK) in Reader(page).text
    assert str(hub) not in Reader(page).text
    assert f'title="{hub}"' in page
    # A column that is empty everywhere is left out.
    assert "last service" not in read.text
    assert "none of which exists" in Reader(Records([None, None])._repr_html_()).text
    assert "0 records" in Reader(Records[Any]()._repr_html_()).text


def test_long_list_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "MOST_ROWS", 3)
    read = Reader(Records([details()] * 1005)._repr_html_())
    assert read.tags.count("tr") == 4
    assert "and 1,002 more" in read.text


def test_record_has_a_row_for_each_field() -> None:
    read = Reader(network()._repr_html_())
    assert read.tags.count("tr") == len(NetworkDetails.model_fields)
    assert "2 complete, 1 waiting" in read.text
    read = Reader(SERVICE._repr_html_())
    assert "identifier" in read.text
    assert "0:01:01" in read.text


def test_records_in_a_record_do_not_repeat_its_key() -> None:
    history = TaskHistory(
        task=TASK,
        changes=(StatusChange(status=TaskStatusEnum.waiting, changed_at=TIME),),
        attempts=(ATTEMPT,),
    )
    read = Reader(history._repr_html_())
    assert read.tags.count("table") == 3
    assert read.text.count(str(TASK)) == 1


def test_records_are_plain_values() -> None:
    [first, missing, key, pair, service] = records(
        [network(), None, TASK, {"state": NetworkStateEnum.active, 1: (TASK,)}, SERVICE]
    )
    assert first == {
        "network": str(NETWORK),
        "name": "tyk2",
        "state": "active",
        "created_at": TIME,
        "taskhub": None,
        "weight": None,
        "strategy": None,
        "num_transformations": 3,
        "tasks": {"waiting": 1, "complete": 2},
    }
    assert type(first["state"]) is str
    assert missing == {}
    assert key == {"key": str(TASK), "org": "org", "campaign": "campaign", "project": "project"}
    assert pair == {"state": "active", "1": [str(TASK)]}
    assert service["registration"]["identifier"] == "service"
    assert records([Quota(scope=Scope("a", "b"))])[0]["scope"] == "a-b-*"
    for wrong in ("text", 1, object()):
        with pytest.raises(TypeError, match="expected a record or a key"):
            records([wrong])


def test_data_frame_has_a_row_for_each_record() -> None:
    frame = Records([network(), None, network(tasks={"error": 4})]).to_pandas()
    assert list(frame["network"].fillna("-")) == [str(NETWORK), "-", str(NETWORK)]
    assert frame["tasks.waiting"].sum() == 1
    assert frame["tasks.error"].sum() == 4
    assert frame["created_at"].dt.year.dropna().eq(2026).all()
    counts = StatusCounts(waiting=3).to_pandas()
    assert counts.to_dict("records") == [{"status": "waiting", "tasks": 3}]
    assert to_pandas([]).empty


def test_missing_pandas_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageNotInstalledError, match=r"pip install 'alchemistore\[pandas\]'"):
        to_pandas([])
