"""A cycle of alchemiscale's strategist, which executes the strategy in a process of its own."""

from __future__ import annotations

import importlib
import os
import sys

if os.environ["ORDER"] == "install last":
    # The process of the strategy imports it here, too.
    importlib.import_module("alchemiscale.strategist")

if __name__ == "__main__":
    from alchemistore.alchemiscale import install

    install()

    from alchemiscale.models import Scope
    from alchemiscale.settings import Neo4jStoreSettings, S3ObjectStoreSettings
    from alchemiscale.storage.models import StrategyState
    from alchemiscale.strategist.service import StrategistService
    from alchemiscale.strategist.settings import StrategistSettings
    from stratocaster.strategies import ConnectivityStrategy

    from harmonic.protocol import HarmonicProtocol, HarmonicSettings
    from harmonic.system import build_network

    database = Neo4jStoreSettings(NEO4J_URL=os.environ["URL"], NEO4J_USER="", NEO4J_PASS="")
    settings = StrategistSettings(
        sleep_interval=1,
        max_workers=1,
        cache_directory=sys.argv[1],
        neo4j_settings=database,
        s3_settings=S3ObjectStoreSettings(),
    )
    service = StrategistService(settings)
    store = service.n4js
    network, hub, _ = store.assemble_network(
        build_network(HarmonicProtocol(HarmonicSettings())), Scope("org", "campaign", "project")
    )
    strategy = ConnectivityStrategy(ConnectivityStrategy.default_settings())
    store.set_network_strategy(network, strategy, StrategyState(sleep_interval=1))
    service.cycle()

    state = store.get_network_strategy_state(network)
    assert state.exception is None, state.traceback
    assert state.iterations == 1
    assert store.get_taskhub_tasks(hub)
    service.close()
