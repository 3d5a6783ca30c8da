"""The operations of the store: functions ``name(tx, ...)``, one module per subject."""
