"""The calls of the reference interface: names, parameters and defaults, as its users write them.

`ANY` is a default that is not compared: where the reference takes an open scope or a time, this
store also accepts none.
"""

from __future__ import annotations

ANY = object()
REQUIRED = object()

SCOPE = {"scope": ANY}
MANAGER = {"compute_manager_id": REQUIRED}
FORGIVING = {"forgive_time": REQUIRED, "max_failures": REQUIRED}
SETTER: dict[str, object] = {"tasks": REQUIRED, "raise_error": False}

STATE_STORE: dict[str, dict[str, object]] = {
    "assemble_network": {"network": REQUIRED, "scope": REQUIRED, "state": "active"},
    "get_network_state": {"networks": REQUIRED},
    "set_network_state": {"networks": REQUIRED, "states": REQUIRED},
    "create_network": {"network": REQUIRED, "scope": REQUIRED},
    "delete_network": {"network": REQUIRED},
    "get_gufe": {"scoped_key": REQUIRED},
    "get_scoped_key": {"obj": REQUIRED, "scope": REQUIRED},
    "check_existence": {"scoped_key": REQUIRED},
    "query_networks": {"name": None, "key": None, **SCOPE, "return_gufe": False, "state": None},
    "query_transformations": {"name": None, "key": None, **SCOPE},
    "query_chemicalsystems": {"name": None, "key": None, **SCOPE},
    "get_network_transformations": {"network": REQUIRED},
    "get_transformation_networks": {"transformation": REQUIRED},
    "get_network_chemicalsystems": {"network": REQUIRED},
    "get_chemicalsystem_networks": {"chemicalsystem": REQUIRED},
    "get_transformation_chemicalsystems": {"transformation": REQUIRED},
    "get_chemicalsystem_transformations": {"chemicalsystem": REQUIRED},
    "create_taskhub": {"network": REQUIRED},
    "get_taskhub": {"network": REQUIRED, "return_gufe": False},
    "get_taskhubs": {"network_scoped_keys": REQUIRED, "return_gufe": False},
    "query_taskhubs": {**SCOPE, "return_gufe": False},
    "delete_taskhub": {"network": REQUIRED},
    "set_taskhub_weight": {"network": REQUIRED, "weight": REQUIRED},
    "get_taskhub_weight": {"network": REQUIRED},
    "get_taskhub_actioned_tasks": {"taskhub": REQUIRED},
    "get_transformation_actioned_tasks": {"transformation": REQUIRED, "taskhub": REQUIRED},
    "get_task_actioned_networks": {"task": REQUIRED},
    "get_taskhub_tasks": {"taskhub": REQUIRED, "return_gufe": False},
    "get_taskhub_unclaimed_tasks": {"taskhub": REQUIRED, "return_gufe": False},
    "action_tasks": {"tasks": REQUIRED, "taskhub": REQUIRED},
    "cancel_tasks": {"tasks": REQUIRED, "taskhub": REQUIRED},
    "set_task_weights": {"tasks": REQUIRED, "taskhub": REQUIRED, "weight": None},
    "get_task_weights": {"tasks": REQUIRED, "taskhub": REQUIRED},
    "create_task": {"transformation": REQUIRED, "extends": None, "creator": None},
    "create_tasks": {"transformations": REQUIRED, "extends": None, "creator": None},
    "set_tasks": {"transformation": REQUIRED, "extends": None, "count": 1},
    "query_tasks": {"status": None, "key": None, **SCOPE},
    "get_network_tasks": {"network": REQUIRED, "status": None},
    "get_task_networks": {"task": REQUIRED},
    "get_transformation_tasks": {
        "transformation": REQUIRED,
        "extends": None,
        "return_as": "list",
        "status": None,
    },
    "get_task_transformation": {"task": REQUIRED, "return_gufe": True},
    "set_task_priority": {"tasks": REQUIRED, "priority": REQUIRED},
    "get_task_priority": {"tasks": REQUIRED},
    "claim_taskhub_tasks": {
        "taskhub": REQUIRED,
        "compute_service_id": REQUIRED,
        "count": 1,
        "protocols": None,
    },
    "register_computeservice": {"compute_service_registration": REQUIRED},
    "heartbeat_computeservice": {"compute_service_id": REQUIRED, "heartbeat": ANY},
    "deregister_computeservice": {"compute_service_id": REQUIRED},
    "expire_registrations": {"expire_time": REQUIRED},
    "log_failure_compute_service": {"compute_service_id": REQUIRED, "failure_time": ANY},
    "compute_service_can_claim": {"compute_service_id": REQUIRED, **FORGIVING},
    "compute_services_can_claim": {"compute_service_ids": REQUIRED, **FORGIVING},
    "register_computemanager": {"compute_manager_registration": REQUIRED, "steal": False},
    "deregister_computemanager": MANAGER,
    "expire_computemanager_registrations": {
        "expire_time_ok": REQUIRED,
        "expire_time_error": REQUIRED,
    },
    "get_compute_manager_id": {"name": REQUIRED},
    "get_compute_manager_status": MANAGER,
    "clear_errored_computemanager": MANAGER,
    "get_computemanager_instruction": {
        **MANAGER,
        **FORGIVING,
        "scopes": REQUIRED,
        "protocols": REQUIRED,
    },
    "update_compute_manager_status": {
        **MANAGER,
        "status": REQUIRED,
        "detail": None,
        "saturation": None,
        "update_time": None,
    },
    "set_task_status": {"tasks": REQUIRED, "status": REQUIRED, "raise_error": False},
    "set_task_waiting": SETTER,
    "set_task_running": SETTER,
    "set_task_complete": SETTER,
    "set_task_error": SETTER,
    "set_task_invalid": SETTER,
    "set_task_deleted": SETTER,
    "get_task_status": {"tasks": REQUIRED},
    "get_scope_status": {"scope": REQUIRED, "network_state": "active"},
    "get_network_status": {"network": REQUIRED},
    "get_transformation_status": {"transformation": REQUIRED},
    "set_task_result": {"task": REQUIRED, "protocoldagresultref": REQUIRED},
    "get_task_results": {"task": REQUIRED},
    "get_task_failures": {"task": REQUIRED},
    "get_transformation_results": {"transformation": REQUIRED},
    "get_transformation_failures": {"transformation": REQUIRED},
    "set_network_strategy": {
        "network": REQUIRED,
        "strategy": REQUIRED,
        "strategy_state": None,
    },
    "get_network_strategy": {"network": REQUIRED},
    "get_network_strategy_state": {"network": REQUIRED},
    "get_strategies_for_execution": {"scopes": None, "min_sleep_interval": 0},
    "update_strategy_state": {"network": REQUIRED, "strategy_state": REQUIRED},
    "add_protocol_dag_result_ref_tracebacks": {
        "protocol_unit_failures": REQUIRED,
        "protocol_dag_result_ref_scoped_key": REQUIRED,
    },
    "add_task_restart_patterns": {
        "taskhub": REQUIRED,
        "patterns": REQUIRED,
        "number_of_retries": REQUIRED,
    },
    "remove_task_restart_patterns": {"taskhub": REQUIRED, "patterns": REQUIRED},
    "clear_task_restart_patterns": {"taskhub": REQUIRED},
    "set_task_restart_patterns_max_retries": {
        "taskhub_scoped_key": REQUIRED,
        "patterns": REQUIRED,
        "max_retries": REQUIRED,
    },
    "get_task_restart_patterns": {"taskhubs": REQUIRED},
    "resolve_task_restarts": {"task_scoped_keys": REQUIRED},
    "set_strategy": {"strategy": REQUIRED, "network": REQUIRED},
    "delete_task": {"task": REQUIRED},
    "create_credentialed_entity": {"entity": REQUIRED},
    "get_credentialed_entity": {"identifier": REQUIRED, "cls": REQUIRED},
    "list_credentialed_entities": {"cls": REQUIRED},
    "remove_credentialed_identity": {"identifier": REQUIRED, "cls": REQUIRED},
    "add_scope": {"identifier": REQUIRED, "cls": REQUIRED, "scope": REQUIRED},
    "list_scopes": {"identifier": REQUIRED, "cls": REQUIRED},
    "remove_scope": {"identifier": REQUIRED, "cls": REQUIRED, "scope": REQUIRED},
    "initialize": {},
    "check": {},
    "reset": {},
    "transaction": {"readonly": False, "ignore_exceptions": False},
    "_store_check": {},
}
# These take their filters by name only.
BY_NAME_ONLY = {"query_networks", "query_transformations", "query_chemicalsystems", "query_tasks"}

OBJECT_STORE: dict[str, dict[str, object]] = {
    "__init__": {"session": REQUIRED, "bucket": REQUIRED, "prefix": REQUIRED, "endpoint_url": None},
    "initialize": {},
    "check": {},
    "reset": {},
    "iter_contents": {"prefix": ""},
    "push_protocoldagresult": {
        "protocoldagresult": REQUIRED,
        "transformation": REQUIRED,
        "creator": None,
    },
    "pull_protocoldagresult": {
        "protocoldagresult": None,
        "transformation": None,
        "location": None,
        "return_as": "gufe",
        "ok": True,
    },
    "_store_check": {},
}

# The store of bytes, as alchemiscale 0.8 has it.
BYTES_STORE: dict[str, dict[str, object]] = {
    "__init__": {"settings": REQUIRED},
    "push_protocoldagresult": {
        "protocoldagresult": REQUIRED,
        "protocoldagresult_ok": REQUIRED,
        "protocoldagresult_gufekey": REQUIRED,
        "transformation": REQUIRED,
        "creator": None,
    },
    "pull_protocoldagresult": {
        "protocoldagresult": None,
        "transformation": None,
        "location": None,
        "ok": True,
    },
}

FUNCTIONS: dict[str, dict[str, object]] = {
    "get_statestore": {"settings": ANY},
    "get_s3os": {"settings": REQUIRED, "endpoint_url": None},
}
