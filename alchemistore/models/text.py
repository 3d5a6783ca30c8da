"""Text that PostgreSQL can store."""


def is_text(value: str) -> bool:
    """Tell whether PostgreSQL can hold a text; it has none with NUL or half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
