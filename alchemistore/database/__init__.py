"""The database: engine, transactions, migrations, keys and SQL fragments."""
