"""Benchmarks: ratios of two things measured side by side. ``make bench``, ``make bench-claims``."""

import sys
from pathlib import Path

# The measured networks are made of the example's gufe classes, which live in the checkout.
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
