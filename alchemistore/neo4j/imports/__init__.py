"""The steps of an import by subject: rows of a graph are staged, corrected and merged."""
