"""Load under faults: claimed twice, lost, stranded and inconsistent must all be zero."""
