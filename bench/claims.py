"""``make bench-claims``: claims at depth, in a crowd, and what the queue costs elsewhere."""

from __future__ import annotations

import sys

from bench.bulk import against_no_queue
from bench.contention import throughput, waits
from bench.long_transaction import old_transaction
from bench.queue_depth import depth, depths, naive
from bench.run import main

SUITES = {
    "depth": depth,
    "depths": depths,
    "naive": naive,
    "throughput": throughput,
    "waits": waits,
    "bulk": against_no_queue,
    "old": old_transaction,
}

if __name__ == "__main__":
    sys.exit(main("bench.claims", "alchemistore: claims", SUITES))
