"""Convert the models of alchemiscale and those of this package into each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from alchemiscale import models as their_keys
from alchemiscale.security import models as their_identities
from alchemiscale.storage import models as theirs

from alchemistore import models as ours

# The name under which a state of alchemiscale keeps what it was when it was read. It is no field,
# so it is neither compared nor sent, but copies of the state have it, too.
ORIGIN = "_alchemistore_origin"

ENUMERATIONS = (
    (theirs.TaskStatusEnum, ours.TaskStatusEnum),
    (theirs.NetworkStateEnum, ours.NetworkStateEnum),
    (theirs.StrategyModeEnum, ours.StrategyModeEnum),
    (theirs.StrategyStatusEnum, ours.StrategyStatusEnum),
    (theirs.StrategyTaskScalingEnum, ours.StrategyTaskScalingEnum),
    (theirs.ComputeManagerStatus, ours.ComputeManagerStatus),
    (theirs.ComputeManagerInstruction, ours.ComputeManagerInstruction),
)
# Models whose fields have the same names, with those that only one side has left out.
RECORDS = (
    (theirs.ComputeServiceRegistration, ours.ComputeServiceRegistration),
    (theirs.ComputeManagerRegistration, ours.ComputeManagerRegistration),
    (theirs.TaskProvenance, ours.TaskProvenance),
    (their_identities.CredentialedEntity, ours.CredentialedEntity),
    (their_identities.CredentialedUserIdentity, ours.CredentialedUserIdentity),
    (their_identities.CredentialedComputeIdentity, ours.CredentialedComputeIdentity),
)


def to_ours(value: Any) -> Any:
    """Return the counterpart of a value of alchemiscale; a value without one stays as it is.

    Containers are converted with what they contain, and iterators become lists. Classes become
    their counterparts, too.
    """
    if isinstance(value, type):
        return _OUR_CLASSES.get(value, value)
    convert = _TO_OURS.get(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, Iterator | KeysView | ValuesView):
        return [to_ours(one) for one in value]
    return value


def to_theirs(value: Any) -> Any:
    """Return the counterpart of a value of this package; a value without one stays as it is.

    Containers are converted with what they contain.
    """
    convert = _TO_THEIRS.get(type(value))
    return value if convert is None else convert(value)


def _key_to_theirs(key: ours.ScopedKey) -> Any:
    # A stored key is valid, and validation takes most of the time of long lists.
    return their_keys.ScopedKey.model_construct(
        gufe_key=their_keys.GufeKey(key.gufe_key),
        org=key.org,
        campaign=key.campaign,
        project=key.project,
    )


def _fields(record: Any, cls: Any) -> dict[str, Any]:
    """Return the fields of a record that a class has, too."""
    return {
        name: getattr(record, name)
        for name in type(record).model_fields
        if name in cls.model_fields
    }


def _record_to_ours(cls: Any) -> Callable[[Any], Any]:
    return lambda record: cls(
        **{name: to_ours(value) for name, value in _fields(record, cls).items()}
    )


def _record_to_theirs(cls: Any) -> Callable[[Any], Any]:
    return lambda record: cls(
        **{name: to_theirs(value) for name, value in _fields(record, cls).items()}
    )


def _manager_to_theirs(manager: ours.ComputeManagerRegistration) -> Any:
    # Neither is optional there; a manager has one of them, according to its status.
    return theirs.ComputeManagerRegistration(
        **{
            **dict(manager),
            "status": manager.status.value,
            "detail": manager.detail or "",
            "saturation": manager.saturation or 0.0,
        }
    )


def _manager_to_ours(manager: Any) -> ours.ComputeManagerRegistration:
    error = manager.status == ours.ComputeManagerStatus.ERROR.value
    return ours.ComputeManagerRegistration(
        **{**dict(manager), "saturation": None if error else manager.saturation}
    )


def _id_to_theirs(cls: Any) -> Callable[[str], Any]:
    def convert(identifier: str) -> Any:
        try:
            return cls(str(identifier))
        except ValueError:
            # A service of another client may have any identifier.
            return str(identifier)

    return convert


def _new(cls: Any, **fields: Any) -> Any:
    """Return a new gufe object, though another one with its key may be alive.

    gufe would return that one, with the values that it had when it was made.
    """
    made = cls.__new__(cls)
    cls.__init__(made, **fields)
    return made


def _task_to_theirs(task: ours.Task) -> Any:
    return _new(
        theirs.Task,
        status=theirs.TaskStatusEnum(task.status.value),
        priority=task.priority,
        datetime_created=task.datetime_created,
        creator=task.creator,
        extends=task.extends,
        claim=task.claim,
        _key=str(task.key),
    )


def _task_to_ours(task: Any) -> ours.Task:
    return ours.Task(
        status=ours.TaskStatusEnum(task.status.value),
        priority=task.priority,
        datetime_created=task.datetime_created,
        creator=task.creator,
        extends=task.extends,
        claim=task.claim,
        key=ours.GufeKey(task.key),
    )


def _result_to_theirs(ref: ours.ProtocolDAGResultRef) -> Any:
    return theirs.ProtocolDAGResultRef(
        location=ref.location,
        obj_key=their_keys.GufeKey(ref.obj_key),
        scope=to_theirs(ref.scope),
        ok=ref.ok,
        datetime_created=ref.datetime_created,
        creator=ref.creator,
    )


def _result_to_ours(ref: Any) -> ours.ProtocolDAGResultRef:
    return ours.ProtocolDAGResultRef(
        location=ref.location,
        obj_key=ours.GufeKey(ref.obj_key),
        scope=to_ours(ref.scope),
        ok=ref.ok,
        datetime_created=ref.datetime_created,
        creator=ref.creator,
    )


def _state_to_theirs(state: ours.StrategyState) -> Any:
    converted = theirs.StrategyState(
        **{name: to_theirs(value) for name, value in _fields(state, theirs.StrategyState).items()}
    )
    converted.__dict__[ORIGIN] = state.origin
    return converted


def _state_to_ours(state: Any) -> ours.StrategyState:
    converted = ours.StrategyState(
        **{name: to_ours(value) for name, value in _fields(state, ours.StrategyState).items()}
    )
    return converted.copy_of(state.__dict__.get(ORIGIN))


def _sequence(convert: Callable[[Any], Any], cls: type) -> Callable[[Any], Any]:
    return lambda values: cls(convert(one) for one in values)


def _mapping(convert: Callable[[Any], Any]) -> Callable[[Mapping[Any, Any]], dict[Any, Any]]:
    return lambda values: {convert(key): convert(value) for key, value in values.items()}


def _containers(convert: Callable[[Any], Any]) -> dict[type, Callable[[Any], Any]]:
    sequences: tuple[type, ...] = (list, tuple, set, frozenset)
    return {**{cls: _sequence(convert, cls) for cls in sequences}, dict: _mapping(convert)}


def _enumeration(cls: Any) -> Callable[[Any], Any]:
    members = {member.value: member for member in cls}
    return lambda member: members[member.value]


_OUR_CLASSES: dict[type, type] = dict([*ENUMERATIONS, *RECORDS])
_TO_OURS: dict[type, Callable[[Any], Any]] = {
    **_containers(to_ours),
    **{their: _enumeration(our) for their, our in ENUMERATIONS},
    **{their: _record_to_ours(our) for their, our in RECORDS},
    their_keys.ScopedKey: lambda key: ours.ScopedKey.from_str(str(key)),
    their_keys.Scope: lambda scope: ours.Scope(*scope.to_tuple()),
    theirs.ComputeManagerRegistration: _manager_to_ours,
    theirs.ComputeServiceID: lambda identifier: ours.ComputeServiceID(str(identifier)),
    theirs.ComputeManagerID: lambda identifier: ours.ComputeManagerID(str(identifier)),
    theirs.ProtocolDAGResultRef: _result_to_ours,
    theirs.StrategyState: _state_to_ours,
    theirs.Task: _task_to_ours,
    theirs.TaskHub: lambda hub: ours.TaskHub(network=str(hub.network), weight=hub.weight),
    theirs.NetworkMark: lambda mark: ours.NetworkMark(
        target=str(mark.target), state=mark.state.value
    ),
}
_TO_THEIRS: dict[type, Callable[[Any], Any]] = {
    **_containers(to_theirs),
    **{our: _enumeration(their) for their, our in ENUMERATIONS},
    **{our: _record_to_theirs(their) for their, our in RECORDS},
    ours.ScopedKey: _key_to_theirs,
    ours.Scope: lambda scope: their_keys.Scope(*scope.to_tuple()),
    ours.ComputeManagerRegistration: _manager_to_theirs,
    ours.ComputeServiceID: _id_to_theirs(theirs.ComputeServiceID),
    ours.ComputeManagerID: _id_to_theirs(theirs.ComputeManagerID),
    ours.ProtocolDAGResultRef: _result_to_theirs,
    ours.StrategyState: _state_to_theirs,
    ours.Task: _task_to_theirs,
    ours.TaskHub: lambda hub: _new(theirs.TaskHub, network=hub.network, weight=hub.weight),
    ours.NetworkMark: lambda mark: _new(
        theirs.NetworkMark, target=mark.target, state=mark.state.value
    ),
}
