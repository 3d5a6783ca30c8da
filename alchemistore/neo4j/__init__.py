"""Read the graph of an alchemiscale 0.8 server in Neo4j, and move it into a store."""
