"""The errors of this package.

Missing objects raise a :class:`KeyError` and bad arguments a :class:`ValueError`. All other errors
are of the classes below.
"""

from collections.abc import Sequence


class AlchemistoreError(Exception):
    """Base class of errors of the store, as opposed to errors in the arguments of a call."""


class StateStoreError(AlchemistoreError):
    """The database returned an unexpected or inconsistent answer, or refused a statement."""


class StoreUnavailableError(AlchemistoreError):
    """The database or the object store cannot be reached or rejected the credentials."""


class OutcomeUnknownError(StoreUnavailableError):
    """The connection was lost during COMMIT, so the changes were made or not; the message says how
    to find out."""

    def __init__(self, reason: object) -> None:
        super().__init__(
            f"the connection was lost while the transaction was committed: {reason}; it is unknown"
            " whether the changes were made. Read the state of the objects concerned, or repeat the"
            " call with the same 'request' identifier if it takes one"
        )


class QuotaError(AlchemistoreError):
    """A quota allows no more tasks."""


class SchemaError(StateStoreError):
    """The schema is missing, too old or too new. The message names the command to run."""


class CheckError(StateStoreError):
    """The check of the store found problems.

    Attributes
    ----------
    problems : tuple of str
        One sentence for each problem, with the name of the object.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(
            f"{len(problems)} problem(s) found:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )


class S3ObjectStoreError(AlchemistoreError):
    """The object store refused a request, or an object in it is damaged."""


class S3UnavailableError(S3ObjectStoreError, StoreUnavailableError):
    """The object store cannot be reached, is out of order, or rejected the credentials."""


class GufeNotInstalledError(AlchemistoreError, ImportError):
    """gufe or one of its dependencies is not installed. The message says how to install it."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"this call needs gufe, but the module {module!r} is not installed: install gufe 1.1 or"
            " newer with 'conda install -c conda-forge gufe', or an old version to experiment with"
            " by \"pip install 'alchemistore[gufe]'\""
        )


class AlchemiscaleNotInstalledError(AlchemistoreError, ImportError):
    """A package that an alchemiscale server needs is not installed. The message says which."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"an alchemiscale server needs {' and '.join(missing)}, which"
            f" {'is' if len(missing) == 1 else 'are'} not installed: install gufe 1.x and"
            " stratocaster with 'conda install -c conda-forge gufe stratocaster', and alchemiscale"
            " 0.8 and what it needs with \"pip install 'alchemistore[server]'\"; the file"
            " environment-server.yml names all of them"
        )


class GraphError(AlchemistoreError):
    """A graph in Neo4j cannot be read, or cannot be imported. The message says why."""


class Neo4jNotInstalledError(AlchemistoreError, ImportError):
    """The driver for Neo4j is not installed. The message says how to install it."""

    def __init__(self) -> None:
        super().__init__(
            "reading a graph in Neo4j needs the package 'neo4j', which is not installed: install"
            " it with \"pip install 'alchemistore[neo4j]'\""
        )


class PackageNotInstalledError(AlchemistoreError, ImportError):
    """A package of an extra is not installed. The message says how to install it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f'{what} needs the package {package!r}, which is not installed: install it with "pip'
            f" install 'alchemistore[{extra}]'\""
        )


class DamagedDocumentError(StateStoreError, ValueError):
    """A stored document is missing, truncated or damaged, or is not that of its key."""


class DocumentNotBuildableError(AlchemistoreError):
    """An intact document cannot be built with the installed packages; nothing is lost.

    Attributes
    ----------
    key : str
        Key of the object.
    class_name : str
        Module and name of its class.
    reason : str
        The reason, with the missing module or the installed version.
    root : str
        Key of the object that was asked for, which contains this one.
    """

    def __init__(
        self, key: str, class_name: str, reason: str, root: str = "", how: str = ""
    ) -> None:
        self.key, self.class_name, self.reason, self.root = key, class_name, reason, root or key
        part = f" (part of {root})" if root and root != key else ""
        how = how or "get_keyed_chain returns it without building an object"
        super().__init__(
            f"{key}{part} is of the class {class_name} and cannot be built here: {reason}."
            f" The stored document is intact and nothing is lost: {how}"
        )


class DocumentConflictError(ValueError):
    """A document differs from the one that is stored under its key."""


class InvalidScopeError(ValueError):
    """A scope is malformed."""


class MissingObjectError(KeyError):
    """The object is not in the database. A :class:`KeyError` whose `str` is the message."""

    def __init__(self, what: object) -> None:
        super().__init__(f"No such object in database: {what}")

    def __str__(self) -> str:
        return str(self.args[0])


class MissingStoredObjectError(MissingObjectError):
    """The object is not in the object store. A :class:`KeyError` whose `str` is the message."""

    def __init__(self, location: str) -> None:
        KeyError.__init__(self, f"No such object in the object store: {location}")


class KeyDriftWarning(UserWarning):
    """The installed gufe computes another key for an object than the one it is stored under."""


class DocumentConflictWarning(UserWarning):
    """A document differs from the stored one, which another version wrote and which stays."""


def unknown_service(identifier: str) -> MissingObjectError:
    """Return the error for a compute service that is not registered."""
    return MissingObjectError(
        f"compute service {str(identifier)!r} is not registered; register it first"
    )


# The error to raise when a constraint is violated, by the name of the constraint.
CONSTRAINT_ERRORS: dict[str, tuple[type[Exception], str]] = {
    "compute_services__pk": (
        ValueError,
        "a compute service is already registered under this identifier",
    ),
    "compute_services__identifier__ck": (
        ValueError,
        "the identifier of a compute service must not be empty",
    ),
    "identities__identifier__ck": (ValueError, "the identifier of an identity must not be empty"),
    "claims__compute_services__fk": (
        KeyError,
        "the compute service is not registered; register it first",
    ),
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
