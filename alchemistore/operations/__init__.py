"""What the store does: functions ``name(tx, ...)`` under their public names, one module for each subject."""
