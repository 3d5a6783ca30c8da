"""The database: engine, transactions, migrations, and what SQL statements share."""
