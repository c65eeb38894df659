"""Servers and their clients, as the end-to-end tests have them."""

from tests.e2e.conftest import make_house, nothing_secret_is_printed

__all__ = ["make_house", "nothing_secret_is_printed"]
