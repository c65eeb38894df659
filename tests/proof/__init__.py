"""The standing proof in short, and the state machine over the whole server."""
