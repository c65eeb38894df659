"""PostgreSQL behind the `Store` seam: many nodes on one database (docs/decisions, docs/howto/postgresql.md)."""
