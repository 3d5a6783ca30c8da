"""``make bench``: networks and files against gufe, bulk calls and counts against bare SQL."""

from __future__ import annotations

import sys

from bench.bulk import against_sql
from bench.exchange import exchange
from bench.networks import networks
from bench.run import main
from bench.status_counts import counts

if __name__ == "__main__":
    sys.exit(
        main(
            "bench",
            "alchemistore: networks, files, bulk calls, counts",
            {
                "networks": networks,
                "exchange": exchange,
                "bulk": against_sql,
                "counts": counts,
            },
        )
    )
