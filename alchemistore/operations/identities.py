"""Users and compute identities."""
