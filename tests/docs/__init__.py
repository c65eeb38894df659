"""What the documentation says, held against the code and a running server."""
