"""Hubs, marks and strategies of networks, and networks that the graph does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from alchemistore.database.keys import gufe_token
from alchemistore.models import NetworkMark, Scope, ScopedKey, StrategyState
from alchemistore.models.network import parse_state
from alchemistore.models.text import escape
from alchemistore.neo4j.imports.merge import COUNTS, Merge, removed
from alchemistore.neo4j.imports.staging import stage, texts
from alchemistore.neo4j.keys import key_in
from alchemistore.neo4j.records import GraphNetwork
from alchemistore.neo4j.report import PartReport, first_line
from alchemistore.operations.networks import delete_network
from alchemistore.operations.taskhubs import drop_taskhub

FIND_GONE_NETWORKS = text("""
    SELECT kind, token FROM networks AS n
    WHERE n.scope_id = :scope_id AND NOT EXISTS (
        SELECT FROM graph_networks AS g WHERE g.network = n.token
    )
    ORDER BY token
""")
FIND_GONE_HUBS = text("""
    SELECT network FROM taskhubs AS h
    WHERE h.scope_id = :scope_id AND NOT EXISTS (
        SELECT FROM graph_hubs AS g WHERE g.taskhub = h.token AND g.network = h.network
    )
    ORDER BY network
""")


MERGES = (
    Merge(
        "hubs",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO taskhubs AS t (scope_id, token, network, weight, created_at)
                SELECT :scope_id, taskhub, network, weight, :now FROM graph_hubs ORDER BY taskhub
                ON CONFLICT (scope_id, token) DO UPDATE SET weight = excluded.weight
                WHERE t.weight <> excluded.weight
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "marks",
        removed("network_marks", "SELECT FROM graph_networks AS g WHERE g.network = t.network"),
        text(f"""
            WITH new AS (
                INSERT INTO network_marks AS t (scope_id, token, network, state, created_at)
                SELECT :scope_id, mark, network, state, :now FROM graph_marks ORDER BY network
                ON CONFLICT (scope_id, network) DO UPDATE SET state = excluded.state
                WHERE t.state <> excluded.state
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "strategies",
        text("""
            WITH gone AS (
                UPDATE networks AS n SET strategy = NULL
                WHERE n.scope_id = :scope_id AND n.strategy IS NOT NULL AND NOT EXISTS (
                    SELECT FROM graph_strategies AS g WHERE g.network = n.token
                )
                RETURNING n.token
            ), states AS (
                DELETE FROM network_strategies AS t
                WHERE t.scope_id = :scope_id AND NOT EXISTS (
                    SELECT FROM graph_strategies AS g WHERE g.network = t.network
                )
            )
            SELECT token FROM gone
        """),
        text("""
            WITH links AS (
                UPDATE networks AS n SET strategy = g.strategy FROM graph_strategies AS g
                WHERE n.scope_id = :scope_id AND n.token = g.network
                    AND n.strategy IS DISTINCT FROM g.strategy
                RETURNING n.token
            ), new AS (
                INSERT INTO network_strategies AS t (
                    scope_id, network, set_at, set_since_lease, mode, status, iterations,
                    sleep_interval, last_iteration_at, last_iteration_result_count,
                    max_tasks_per_transformation, task_scaling, exception, traceback
                )
                SELECT :scope_id, network, :now, true, mode, status, iterations, sleep_interval,
                    last_iteration_at, last_iteration_result_count, max_tasks_per_transformation,
                    task_scaling, exception, traceback
                FROM graph_strategies
                ON CONFLICT (scope_id, network) DO UPDATE SET
                    mode = excluded.mode, status = excluded.status,
                    iterations = excluded.iterations, sleep_interval = excluded.sleep_interval,
                    last_iteration_at = excluded.last_iteration_at,
                    last_iteration_result_count = excluded.last_iteration_result_count,
                    max_tasks_per_transformation = excluded.max_tasks_per_transformation,
                    task_scaling = excluded.task_scaling, exception = excluded.exception,
                    traceback = excluded.traceback, set_since_lease = true
                WHERE (
                    t.mode, t.status, t.iterations, t.sleep_interval, t.last_iteration_at,
                    t.last_iteration_result_count, t.max_tasks_per_transformation, t.task_scaling,
                    t.exception, t.traceback
                ) IS DISTINCT FROM (
                    excluded.mode, excluded.status, excluded.iterations, excluded.sleep_interval,
                    excluded.last_iteration_at, excluded.last_iteration_result_count,
                    excluded.max_tasks_per_transformation, excluded.task_scaling,
                    excluded.exception, excluded.traceback
                )
                RETURNING xmax = 0 AS added, network
            )
            SELECT count(*) FILTER (WHERE added),
                (
                    SELECT count(*) FROM (
                        SELECT token FROM links UNION SELECT network FROM new
                    ) AS either
                ) - count(*) FILTER (WHERE added)
            FROM new
        """),
    ),
)


def stage_networks(
    tx: Connection,
    report: PartReport,
    networks: Sequence[GraphNetwork],
    strategies: set[ScopedKey],
) -> None:
    """Add networks to the staging tables, with hubs, marks and strategies."""
    hubs, marks, states = [], [], []
    for one in networks:
        place = {"network": one.key.token}
        for kind, found in (
            ("hubs", one.hubs),
            ("marks", one.states),
            ("strategies", one.strategies),
        ):
            if len(found) > 1:
                report.find(one.key, f"it has {len(found)} {kind}; one of them was taken")
        for hub in one.hubs[:1]:
            weight = checked_weight(report, one.key, hub.weight)
            hubs.append({**place, "taskhub": gufe_token(hub.key), "weight": weight})
        if not one.states:
            report.find(one.key, "it has no mark; it is active now")
        state = str(parse_state(one.states[0])) if one.states else "active"
        mark = gufe_token(NetworkMark(target=str(one.key)).key)
        marks.append({**place, "mark": mark, "state": state})
        for strategy in one.strategies[:1]:
            try:
                values = StrategyState(**strategy.state)
            except ValueError as error:
                report.find(one.key, f"its strategy was left out: {first_line(error)}")
                continue
            if strategy.key in strategies:
                states.append({**place, "strategy": strategy.key.token, **_state(values)})
    stage(tx, "networks", ({"network": one.key.token} for one in networks))
    stage(tx, "hubs", hubs)
    stage(tx, "marks", marks)
    stage(tx, "strategies", states)


def _state(state: StrategyState) -> dict[str, Any]:
    values = state.to_dict()
    return {
        **values,
        "last_iteration_at": values["last_iteration"],
        "exception": None if state.exception is None else texts(state.exception),
        "traceback": escape(state.traceback),
    }


def remove_networks(
    tx: Connection, report: PartReport, scope: Scope, values: dict[str, Any]
) -> None:
    """Remove the networks and hubs that the graph does not have."""
    for kind, token in tx.execute(FIND_GONE_NETWORKS, values).all():
        delete_network(tx, key_in(scope, kind, token))
        report.count("networks", removed=1)
    for network in tx.scalars(FIND_GONE_HUBS, values).all():
        drop_taskhub(tx, values["scope_id"], network)
        report.count("hubs", removed=1)


def checked_weight(report: PartReport, key: ScopedKey, weight: float) -> float:
    """Return a weight in the range that the store allows, and report another one."""
    allowed = 0.0 if math.isnan(weight) else min(max(float(weight), 0.0), 1.0)
    if allowed != weight:
        report.find(key, f"it has the weight {weight}; {allowed} was taken")
    return allowed
