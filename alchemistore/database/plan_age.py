"""When a session makes the plans of its prepared statements anew.

PostgreSQL keeps a plan, also that of the check of a foreign key, until somebody analyzes a table. A
plan that was made while a table was small reads all of it. A session that begins on an empty store
would thus become slower and slower, until autovacuum has seen to the tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Drops all plans of a session; its prepared statements stay.
RENEW = "DISCARD PLANS"
# Making the plans of the usual calls takes some 10 ms.
SECONDS = 10.0
# Calls of a session after which it makes its plans anew for the first time.
CALLS = 64


@dataclass
class PlanAge:
    """The age of the plans of a session.

    They are made anew when the number of its calls has doubled, because tables grow with calls, and
    after a while, because other sessions fill tables, too.

    Attributes
    ----------
    calls : int
        The calls so far.
    limit : int
        The number of calls at which the plans are made anew.
    made_at : float
        When they were made, on the monotonic clock.
    """

    calls: int = 0
    limit: int = CALLS
    made_at: float = field(default_factory=time.monotonic)

    def count(self) -> bool:
        """Count a call, and return whether to make the plans anew before it."""
        self.calls += 1
        moment = time.monotonic()
        if self.calls < self.limit and moment - self.made_at < SECONDS:
            return False
        self.limit = max(self.limit, 2 * self.calls)
        self.made_at = moment
        return True
