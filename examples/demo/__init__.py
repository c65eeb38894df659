"""A live list in the terminal, for about 15 seconds, on a server and data of its own."""
