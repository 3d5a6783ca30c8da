"""Run the services of alchemiscale 0.8 on this store.

:func:`install` puts the state store of this package in the place of alchemiscale's. Nothing of
alchemiscale is edited, and Neo4j and its drivers are not needed.

This package converts settings and models, and contains no rules of its own. It is the only one that
imports alchemiscale.
"""

from alchemistore.alchemiscale.substitution import install

__all__ = ["install"]
