"""The errors of this package.

Missing objects are :class:`KeyError`, bad arguments :class:`ValueError`; everything that is neither is one of the classes below.
"""


class AlchemistoreError(Exception):
    """Base of the errors that are about the store itself, not about what was asked of it."""


class StateStoreError(AlchemistoreError):
    """The database answered, and what it says cannot be right."""


class StoreUnavailableError(AlchemistoreError):
    """The database or the object store cannot be reached or does not let us in; the text says what to do."""


class OutcomeUnknownError(StoreUnavailableError):
    """The connection was lost during COMMIT, so the changes were made or not; the message says how
    to find out."""

    def __init__(self, reason: object) -> None:
        super().__init__(
            f"the connection was lost while the transaction was committed: {reason}; it is unknown"
            " whether the changes were made. Read the state of the objects concerned, or repeat the"
            " call with the same 'request' identifier if it takes one"
        )


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
        super().__init__(
            f"{len(problems)} problem(s) found:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )


class S3ObjectStoreError(AlchemistoreError):
    """The object store refused or garbled an object."""


class S3UnavailableError(S3ObjectStoreError, StoreUnavailableError):
    """The object store cannot be reached or does not let us in; the text says what to do."""


class GufeNotInstalledError(AlchemistoreError, ImportError):
    """gufe, or a package that it needs, is not installed; the text says how to install it."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"this call needs gufe objects, but the module {module!r} is not installed: install gufe 1.1"
            " or newer from conda-forge ('conda install -c conda-forge gufe'), or, to try things"
            " out, \"pip install 'alchemistore[gufe]'\""
        )


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
    return MissingObjectError(
        f"compute service {str(identifier)!r} is not registered; register it (again) first"
    )


# What a refused constraint means to the caller. The names are part of the schema, and tested against it.
CONSTRAINT_ERRORS: dict[str, tuple[type[Exception], str]] = {
    "compute_services__pk": (
        ValueError,
        "a compute service is already registered under this identifier",
    ),
    "compute_services__identifier__ck": (
        ValueError,
        "the identifier of a compute service may not be empty",
    ),
    "identities__identifier__ck": (ValueError, "the identifier of an identity may not be empty"),
    "claims__compute_services__fk": (KeyError, "the compute service is not registered"),
    "extends__tasks__parent__fk": (
        ValueError,
        "a task can only extend a task of the same transformation",
    ),
    "tasks__priority__ck": (ValueError, "priority must be between 1 and 2**63 - 1, inclusive"),
    "actions__weight__ck": (ValueError, "weight must be between 0.0 and 1.0 (inclusive)"),
    "taskhubs__weight__ck": (ValueError, "weight must be between 0.0 and 1.0 (inclusive)"),
    "taskhubs__networks__fk": (KeyError, "No such object in database: the network of the hub"),
    "tasks__transformations__fk": (
        KeyError,
        "No such object in database: the transformation of the task",
    ),
}
