"""``make bench``: networks and files against gufe, calls against bare SQL, and more."""

from __future__ import annotations

import sys

from bench.bulk import against_sql
from bench.exchange import exchange
from bench.keyed_chains import keyed_chains
from bench.networks import large, networks
from bench.restarts import restarts
from bench.run import main
from bench.startup import startup
from bench.status_counts import counts

if __name__ == "__main__":
    sys.exit(
        main(
            "bench",
            "alchemistore: networks, files, bulk calls, restarts, counts, start",
            {
                "networks": networks,
                "large": large,
                "exchange": exchange,
                "chains": keyed_chains,
                "restarts": restarts,
                "bulk": against_sql,
                "counts": counts,
                "startup": startup,
            },
        )
    )
