"""Cutoffs: the time before which something expires or is forgiven."""

from __future__ import annotations

from datetime import datetime, timedelta

from alchemistore.models.clock import utc


def cutoff(name: str) -> str:
    """Return the SQL for a cutoff, which takes the parameters of `cutoff_parameters`."""
    return f"""coalesce(
        CAST(:{name}_at AS timestamptz), statement_timestamp() - CAST(:{name}_ago AS interval)
    )"""


def cutoff_parameters(name: str, given: datetime | timedelta) -> dict[str, object]:
    """Return the parameters of a cutoff.

    Parameters
    ----------
    name : str
        The name of the argument.
    given : datetime or timedelta
        The cutoff; naive means UTC. A timedelta is subtracted from the time of the database.

    Raises
    ------
    ValueError
        If a timedelta is negative.
    """
    if not isinstance(given, timedelta):
        return {f"{name}_at": utc(given), f"{name}_ago": None}
    if given < timedelta(0):
        raise ValueError(f"{name} must be 0 or more, not {given}")
    return {f"{name}_at": None, f"{name}_ago": given}
