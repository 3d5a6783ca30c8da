"""Long statements without their comments, for the driver."""

from __future__ import annotations

import re
from functools import lru_cache

# psycopg parses a longer statement each time that it is executed, in characters.
PARSED_ONCE_MAX = 4096
# A text or identifier in quotes, which is kept, or comments and white space.
_TEXT_OR_SPACE = re.compile(r"""('(?:[^']|'')*'|"[^"]*")|(?:--[^\n]*|\s)+""")


def shortened(statement: str) -> str:
    """Return a statement, without comments if the driver would parse it in each call."""
    return without_comments(statement) if len(statement) > PARSED_ONCE_MAX else statement


@lru_cache(maxsize=256)
def without_comments(statement: str) -> str:
    """Return a statement without comments, with each white space as one blank."""
    return _TEXT_OR_SPACE.sub(lambda found: found[1] or " ", statement)
