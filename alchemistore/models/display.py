"""Records as tables: in notebooks, as plain dicts, and as data frames of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from alchemistore.errors import PackageNotInstalledError
from alchemistore.models.keys import Scope, ScopedKey

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")

# Rows of a table in a notebook.
MOST_ROWS = 100
# A colour for each status, in the order of the bars.
COLOURS = {
    "complete": "#2a9d55",
    "running": "#2a6fdb",
    "waiting": "#e0a100",
    "error": "#d1362f",
    "invalid": "#9b4dca",
    "deleted": "#9aa0a8",
}
LEFT = 'style="text-align:left"'
# Characters of a key that is not the subject of a row.
SHORT = 24
MONOSPACE = "white-space:nowrap;font-family:monospace"
# They are shown as texts, although keys and scopes have fields.
TEXTS = (str, ScopedKey, Scope)
BAR = "display:inline-flex;width:20em;height:0.9em;border-radius:3px;overflow:hidden"


class HtmlRecord:
    """A base of records that a notebook shows as a table of their fields."""

    def _repr_html_(self) -> str:
        name, fields = escape(type(self).__name__), _fields(self)
        of = next(iter(fields.values()))
        rows = "".join(
            f"<tr><th {LEFT}>{escape(_words(field))}</th><td {LEFT}>{_cell(value, of=of)}</td></tr>"
            for field, value in fields.items()
        )
        return f"<table><caption {LEFT}>{name}</caption><tbody>{rows}</tbody></table>"


class StatusCounts(dict[str, int]):
    """Numbers of tasks by status, without zero counts: a dict that a notebook shows as a bar."""

    def records(self) -> list[dict[str, Any]]:
        """Return one dict per status, with the fields ``status`` and ``tasks``."""
        return [{"status": status, "tasks": tasks} for status, tasks in self.items()]

    def to_pandas(self) -> DataFrame:
        """Return a data frame with the columns ``status`` and ``tasks``; see `to_pandas`."""
        return to_pandas(self.records())

    def _repr_html_(self) -> str:
        return _bar(self)


class Records(list[T]):
    """A list of records: a list that a notebook shows as a table."""

    def records(self) -> list[dict[str, Any]]:
        """Return each record as a dict; see `records`."""
        return records(self)

    def to_pandas(self) -> DataFrame:
        """Return the records as a data frame; see `to_pandas`."""
        return to_pandas(self)

    def _repr_html_(self) -> str:
        return _table(self)


def records(items: Iterable[Any]) -> list[dict[str, Any]]:
    """Return records as dicts of plain values, for tables and files.

    Parameters
    ----------
    items : iterable
        Records of this package, scoped keys, mappings, or ``None`` for missing objects.

    Returns
    -------
    list of dict
        One dict per item, in order; that of ``None`` is empty. Keys, scopes and the values of
        enumerations are strings; times are aware datetimes. A scoped key alone becomes ``key``,
        ``org``, ``campaign`` and ``project``.

    Raises
    ------
    TypeError
        If an item is something else.
    """
    return [_record(item) for item in items]


def to_pandas(items: Iterable[Any]) -> DataFrame:
    """Return records as a data frame. Needs the extra ``pandas``.

    Parameters
    ----------
    items : iterable
        As for `records`.

    Returns
    -------
    pandas.DataFrame
        One row per item. Fields of a field have columns of their own, such as ``tasks.waiting``.

    Raises
    ------
    PackageNotInstalledError
        If pandas is not installed.
    TypeError
        If an item is something else.
    """
    try:
        import pandas
    except ImportError:
        raise PackageNotInstalledError("a data frame", "pandas", "pandas") from None
    return pandas.json_normalize(records(items)).convert_dtypes()


def _record(item: Any) -> dict[str, Any]:
    if item is None:
        return {}
    if isinstance(item, ScopedKey):
        place = {"org": item.org, "campaign": item.campaign, "project": item.project}
        return {"key": str(item), **place}
    if isinstance(item, Mapping):
        return {str(name): _value(value) for name, value in item.items()}
    if isinstance(item, BaseModel):
        return {name: _value(value) for name, value in item}
    raise TypeError(f"expected a record or a key, not {type(item).__name__}")


def _value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | datetime | timedelta):
        return value
    if isinstance(value, TEXTS):
        return str(value)
    if isinstance(value, Mapping | BaseModel):
        return _record(value)
    if isinstance(value, Iterable):
        return [_value(one) for one in value]
    return str(value)


def _words(name: str) -> str:
    return name.removeprefix("num_").replace("_", " ")


def _cell(value: Any, short: bool = False, of: Any = None) -> str:
    """Return a value as HTML.

    Parameters
    ----------
    value : Any
    short : bool, default False
        Show the beginning of a key only; the whole key appears under the mouse.
    of : Any, optional
        The key of the record; records within it do not repeat it.
    """
    if value is None:
        return "–"
    if isinstance(value, Enum):
        return escape(str(value.value))
    if isinstance(value, datetime):
        time = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        return f'<span style="white-space:nowrap">{escape(time)}</span>'
    if isinstance(value, timedelta):
        return escape(str(timedelta(seconds=round(value.total_seconds()))))
    if isinstance(value, float):
        return escape(f"{value:g}")
    if isinstance(value, TEXTS):
        if isinstance(value, str):
            return f"<span>{escape(value)}</span>"
        text = escape(str(value))
        shown = f"{escape(str(value)[:SHORT])}…" if short and len(str(value)) > SHORT else text
        return f'<span style="{MONOSPACE}" title="{text}">{shown}</span>'
    if isinstance(value, Mapping):
        if value and {*value} <= {*COLOURS}:
            return _bar(value)
        pairs = (f"{escape(str(name))}: {_cell(one)}" for name, one in value.items())
        return ", ".join(pairs) or "–"
    if isinstance(value, BaseModel):
        return _cell(dict(value))
    if isinstance(value, Sequence):
        if value and isinstance(value[0], BaseModel) and not isinstance(value[0], TEXTS):
            return _table(value, of)
        return "<br>".join(map(_cell, value)) or "–"
    return escape(str(value))


def _bar(tasks: Mapping[str, int]) -> str:
    total = sum(tasks.values())
    if not total:
        return "<span>no tasks</span>"
    # A status that is not known comes last; its name is a text like any other one.
    names = [*(name for name in COLOURS if tasks.get(name)), *(set(tasks) - set(COLOURS))]
    parts = "".join(
        f'<span title="{escape(name)}: {tasks[name]:,}" style="flex:{tasks[name]} 0 2px;'
        f'background:{COLOURS.get(name, "#666")}"></span>'
        for name in names
    )
    words = ", ".join(f"{tasks[name]:,} {escape(name)}" for name in names)
    return f'<span style="{BAR}">{parts}</span> <span>{words}</span>'


def _table(items: Sequence[Any], of: Any = None) -> str:
    """Return items as an HTML table; a column for each field that any of them has."""
    rows = [_fields(item) for item in items[:MOST_ROWS]]
    if of is not None:
        rows = [{name: one for name, one in row.items() if one != of} for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return f"<span>{len(items):,} records, none of which exists</span>"
    # Fields that are empty everywhere say nothing.
    full = [name for name in columns if any(row.get(name) not in (None, (), {}) for row in rows)]
    head = "".join(f"<th {LEFT}>{escape(_words(name))}</th>" for name in full)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td {LEFT}>{_cell(row.get(name), short=place > 0)}</td>"
            for place, name in enumerate(full)
        )
        + "</tr>"
        for row in rows
    )
    more = len(items) - len(rows)
    rest = f"<caption {LEFT}>and {more:,} more</caption>" if more > 0 else ""
    return f"<table>{rest}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _fields(item: Any) -> dict[str, Any]:
    """Return the fields of a record; those of a record in it take its place."""
    if item is None:
        return {}
    if not isinstance(item, BaseModel) or isinstance(item, TEXTS):
        return {"value": item}
    fields: dict[str, Any] = {}
    for name, value in item:
        if name == "registration":
            fields |= _fields(value)
        else:
            fields[name] = value
    return fields
