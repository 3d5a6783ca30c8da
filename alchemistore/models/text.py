"""Text that PostgreSQL can store."""


def is_text(value: str) -> bool:
    """Check whether PostgreSQL can store a text; NUL and lone surrogates are not possible."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
