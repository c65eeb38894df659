"""One suite over every `Store`; what only SQLite has is in the files that say so."""
