"""Several nodes over one database: what one commits, the clients of every other hear."""
