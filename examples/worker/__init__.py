"""A worker that follows a collection and does something once for each record. `python -m examples.worker` runs it."""
