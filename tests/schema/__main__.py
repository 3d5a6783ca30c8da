"""Write the description of the tables: ``python -m tests.schema``."""

import tempfile
from pathlib import Path

from alchemistore.local import LocalServers, database_url
from alchemistore.maintenance.schema_diff import DESCRIPTION
from tests.schema.describe import described, rendered

with tempfile.TemporaryDirectory(prefix="alchemistore-catalog-") as parent:
    # PostgreSQL does not run as root, and its own user must be able to enter.
    Path(parent).chmod(0o755)
    servers = LocalServers(Path(parent) / "data")
    try:
        DESCRIPTION.write_text(rendered(described(database_url(servers.directory))))
    finally:
        servers.remove()
