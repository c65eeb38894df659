"""REST: the routes, and what they have in common."""
