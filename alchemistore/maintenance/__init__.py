"""Maintenance: checks of schema, data and object store, and repair of the queue."""
