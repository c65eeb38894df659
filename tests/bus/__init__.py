"""The bus: hints as bytes, and the ways between nodes over a real NATS."""
