"""The steps of an export by subject: rows of a store become nodes and relationships."""
