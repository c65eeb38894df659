"""The database behind the `Store` seam: SQLite here, PostgreSQL beside it later."""
