"""The Cypher queries. All of them only read.

A task belongs to the scope of its transformation, which may differ from that of its own key: the
original has given all tasks of a call the scope of the last one.
"""

from __future__ import annotations

# Labels of nodes that are no gufe objects.
RECORDS = (
    "Task",
    "TaskHub",
    "NetworkMark",
    "ProtocolDAGResultRef",
    "TaskRestartPattern",
    "Tracebacks",
    "ObjectStoreRef",
    "TaskArchive",
)


def _in_scope(node: str) -> str:
    return f"{node}._org = $org AND {node}._campaign = $campaign AND {node}._project = $project"


def _no_record(node: str) -> str:
    return " AND ".join(f"NOT {node}:{label}" for label in RECORDS)


def _stray(label: str, kept: str, reason: str) -> str:
    """Return a query for the nodes of a kind that lack the relationship that gives them meaning."""
    return f"""
        MATCH (n:{label}) WHERE {_in_scope("n")} AND NOT EXISTS {{ {kept} }}
        RETURN n._scoped_key AS key, '{reason}' AS reason
    """


QUERIES = {
    # Neo4j 4 understands this one, too, so that old graphs get an answer.
    "kinds": """
        MATCH (n:AlchemicalNetwork) OPTIONAL MATCH (m:NetworkMark)-[:MARKS]->(n)
        RETURN count(DISTINCT n) AS networks, count(DISTINCT m) AS marks
    """,
    "scopes": """
        MATCH (n:GufeTokenizable) WHERE n._org IS NOT NULL
        RETURN DISTINCT n._org AS org, n._campaign AS campaign, n._project AS project
    """,
    "networks": f"""
        MATCH (n:AlchemicalNetwork) WHERE {_in_scope("n")}
        RETURN n._scoped_key AS key, n.name AS name,
            [(h:TaskHub)-[:PERFORMS]->(n) | {{key: h._gufe_key, weight: h.weight}}] AS hubs,
            [(m:NetworkMark)-[:MARKS]->(n) | m.state] AS states,
            [(s)-[p:PROGRESSES]->(n) | {{key: s._scoped_key, state: properties(p)}}] AS strategies,
            [(n)-[r:DEPENDS_ON]->(e) WHERE r.attribute = 'edges' | e._gufe_key] AS edges
    """,
    # Other gufe objects that nothing depends on: strategies, and what is left of networks.
    "roots": f"""
        MATCH (n:GufeTokenizable)
        WHERE {_in_scope("n")} AND {_no_record("n")} AND NOT n:AlchemicalNetwork
            AND NOT EXISTS {{ ()-[:DEPENDS_ON]->(n) }}
        RETURN n._scoped_key AS key,
            EXISTS {{ (n)-[:PROGRESSES]->() }} AS used, EXISTS {{ (:Task)-[:PERFORMS]->(n) }} AS run
    """,
    # An object with everything that it depends on.
    "objects": """
        MATCH (root:GufeTokenizable {_scoped_key: $key})
        OPTIONAL MATCH (root)-[:DEPENDS_ON*]->(part)
        WITH root, collect(DISTINCT part) AS parts
        UNWIND [root] + parts AS n
        RETURN n._gufe_key AS key, properties(n) AS properties,
            [(n)-[r:DEPENDS_ON]->(c) | {
                key: c._gufe_key, attribute: r.attribute, name: r.key, index: r.index
            }] AS links
    """,
    "number of tasks": f"""
        MATCH (t:Task)-[:PERFORMS]->(e) WHERE {_in_scope("e")} RETURN count(t) AS tasks
    """,
    "tasks": f"""
        MATCH (t:Task)-[:PERFORMS]->(e) WHERE {_in_scope("e")}
        RETURN t._scoped_key AS key, e._gufe_key AS transformation, t.status AS status,
            t.priority AS priority, t.creator AS creator, t.datetime_created AS created,
            [(t)-[:EXTENDS]->(p) | p._scoped_key] AS parents,
            [(s:ComputeServiceRegistration)-[c:CLAIMS]->(t) | {{
                service: s.identifier, claimed: c.claimed
            }}] AS claims,
            [(h:TaskHub)-[a:ACTIONS]->(t) | {{hub: h._scoped_key, weight: a.weight}}] AS actions,
            [(p:TaskRestartPattern)-[a:APPLIES]->(t) | {{
                hub: p.taskhub_scoped_key, pattern: p.pattern, retries: a.num_retries
            }}] AS counters,
            [(t)-[:RESULTS_IN]->(r) | r._scoped_key] AS results
    """,
    "results": f"""
        MATCH (e)<-[:PERFORMS]-(t:Task)-[:RESULTS_IN]->(r:ProtocolDAGResultRef)
        WHERE {_in_scope("e")}
        WITH DISTINCT r
        RETURN r._scoped_key AS key, r.obj_key AS obj_key, r.location AS location,
            r.scope AS scope, r.ok AS ok, r.datetime_created AS created, r.creator AS creator
    """,
    "tracebacks": f"""
        MATCH (e)<-[:PERFORMS]-(t:Task)-[:RESULTS_IN]->(r:ProtocolDAGResultRef)
            <-[:DETAILS]-(b:Tracebacks)
        WHERE {_in_scope("e")}
        WITH DISTINCT r, b
        RETURN r._scoped_key AS result, b.tracebacks AS tracebacks, b.source_keys AS sources,
            b.failure_keys AS failures
    """,
    "patterns": f"""
        MATCH (p:TaskRestartPattern)-[:ENFORCES]->(h:TaskHub) WHERE {_in_scope("h")}
        RETURN h._scoped_key AS hub, p.pattern AS pattern, p.max_retries AS max_retries
    """,
    "strays": " UNION ALL ".join(
        (
            _stray("Task", "(n)-[:PERFORMS]->()", "it performs no transformation"),
            f"""
                MATCH (n:Task) WHERE {_in_scope("n")} AND count {{ (n)-[:PERFORMS]->() }} > 1
                RETURN n._scoped_key AS key,
                    'it performs several transformations; one of them was taken' AS reason
            """,
            _stray("TaskHub", "(n)-[:PERFORMS]->(:AlchemicalNetwork)", "it has no network"),
            _stray("NetworkMark", "(n)-[:MARKS]->(:AlchemicalNetwork)", "it marks no network"),
            _stray(
                "ProtocolDAGResultRef",
                "(:Task)-[:RESULTS_IN]->(n)",
                "it is the result of no task",
            ),
            _stray("Tracebacks", "(n)-[:DETAILS]->(:ProtocolDAGResultRef)", "it details no result"),
            _stray("TaskRestartPattern", "(n)-[:ENFORCES]->(:TaskHub)", "its hub is gone"),
        )
    ),
    "services": """
        MATCH (s:ComputeServiceRegistration)
        RETURN s.identifier AS identifier, s.registered AS registered, s.heartbeat AS heartbeat,
            s.failure_times AS failures, s.manager_name AS manager
    """,
    "managers": """
        MATCH (m:ComputeManagerRegistration)
        RETURN m.name AS name, m.uuid AS uuid, m.registered AS registered, m.status AS status,
            m.detail AS detail, m.saturation AS saturation, m.last_status_update AS updated
    """,
    "identities": """
        MATCH (i:CredentialedEntity)
        RETURN CASE WHEN i:CredentialedUserIdentity THEN 'user' ELSE 'compute' END AS type,
            i.identifier AS identifier, i.hashed_key AS hashed_key, i.expires AS expires,
            i.disabled AS disabled, i.email AS email, i.full_name AS full_name, i.scopes AS scopes
    """,
}
