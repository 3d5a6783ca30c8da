"""The errors of this package.

Missing objects are :class:`KeyError`, bad arguments :class:`ValueError`; everything that is neither is one of the classes below.
"""


class AlchemistoreError(Exception):
    """Base of the errors that are about the store itself, not about what was asked of it."""


class StateStoreError(AlchemistoreError):
    """The database answered, and what it says cannot be right."""


class StoreUnavailableError(AlchemistoreError):
    """The database or the object store cannot be reached or does not let us in; the text says what to do."""


class SchemaError(StateStoreError):
    """The schema is missing, too old or too new; the text names the command that mends it."""


class CheckError(StateStoreError):
    """The check found problems.

    Attributes
    ----------
    problems : tuple of str
        One sentence each, naming the object concerned.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problem(s) found:\n" + "\n".join(f"- {problem}" for problem in problems))


class S3ObjectStoreError(AlchemistoreError):
    """The object store refused or garbled an object."""


class S3UnavailableError(S3ObjectStoreError, StoreUnavailableError):
    """The object store cannot be reached or does not let us in; the text says what to do."""


class InvalidScopeError(ValueError):
    """A scope whose parts are not well formed."""


class MissingObjectError(KeyError):
    """The object is not in the database. A :class:`KeyError` whose text is readable."""

    def __init__(self, what: object) -> None:
        super().__init__(f"No such object in database: {what}")

    def __str__(self) -> str:
        return str(self.args[0])


class MissingStoredObjectError(MissingObjectError):
    """The object is not in the object store. A :class:`KeyError` whose text is readable."""

    def __init__(self, location: str) -> None:
        KeyError.__init__(self, f"No such object in the object store: {location}")


class KeyDriftWarning(UserWarning):
    """An object was decoded under a key that the installed gufe no longer computes for it."""


def unknown_service(identifier: str) -> MissingObjectError:
    """Give the error for a compute service that is not registered, or not any more."""
    return MissingObjectError(f"compute service {str(identifier)!r} is not registered; register it (again) first")
