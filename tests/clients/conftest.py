"""Fixtures of the tests of our own clients."""

from tests.e2e.conftest import house, make_house, nothing_secret_is_printed, quick_house, quick_server

__all__ = ["house", "make_house", "nothing_secret_is_printed", "quick_house", "quick_server"]
