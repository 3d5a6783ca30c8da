"""The names and numbers of the campaign."""

from __future__ import annotations

from harmonic_http.protocol import HANG

# A transformation with a larger free energy than this (kT) gets a task that extends another.
EXTEND_ABOVE = 0.8
# The strategist adds tasks until each transformation has this many results.
RESULTS = 2
# Failures with this text are tried again, at most this often for each task.
PATTERN, RESTARTS = "the power of node [0-9]+ has failed", 3
POWER, DISK = "the power of node 7 has failed", "the disk of node 9 is full"
# The faults, in the order in which they happen.
FAULTY = {"1-hang": HANG, "2-power": POWER, "3-power": POWER, "4-disk": DISK}
