"""Numbers about a store in operation, for Prometheus."""
