"""Idioms that keep query plans stable; docs/query-plans.md explains each and names its tests."""

from __future__ import annotations

# Ends a subquery in a LATERAL, so that it is not merged into the query around it: the rows are then
# looked up by key, once for each outer row, whatever the statistics say.
FENCE = "OFFSET 0"


def equal_unindexed(left: str, right: str) -> str:
    """Return a comparison for equality that no index can serve.

    Use it for a column whose index would look as good as the right one to a planner without
    statistics. The columns must not be NULL.
    """
    return f"{left} IS NOT DISTINCT FROM {right}"


def literal_limit(count: int) -> str:
    """Return a LIMIT clause with the number in its text.

    With a parameter, PostgreSQL plans for a tenth of all rows: the generic plan then looks more
    expensive than one made for the actual number, so the statement is planned at every call.
    """
    return f"LIMIT {count:d}"


def all_of(array: str) -> str:
    """Return a LIMIT clause that keeps all elements of an array, for ``unnest`` in a LATERAL.

    PostgreSQL expects ten elements in an array that a query has made, and a tenth of the rows below
    a LIMIT that it cannot evaluate: together one row, so it looks up what is joined by key.
    """
    return f"LIMIT cardinality({array})"


def in_order_of_pages(condition: str, *, never: str) -> str:
    """Return a condition whose rows are read in the order of the pages that they are on.

    A page with several of the rows is then visited once. An index scan would visit it for each.

    Parameters
    ----------
    condition : str
        A condition that an index serves.
    never : str
        A condition that another index serves, and that no row fulfils. The planner must not see
        that it is never true.
    """
    return f"({condition} OR {never})"
