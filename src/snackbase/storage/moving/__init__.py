"""Moving everything from one database to an empty one of the other kind, offline."""
