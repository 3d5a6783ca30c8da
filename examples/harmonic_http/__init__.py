"""The harmonic campaign over HTTP: alchemiscale 0.8 with this store below it.

``python -m harmonic_http`` starts a user API, a compute API, a strategist and compute services, all
of them alchemiscale's own, on a private PostgreSQL and a private S3 server. A user submits the
network of :mod:`harmonic` and reads the results through alchemiscale's client.

It needs an environment with alchemiscale 0.8, gufe 1.x and stratocaster.
"""
