"""Servers and tokens for the protocol tests."""

from collections.abc import Iterator

import pytest

from tests.protocol.raw import GatewayServer, gateway_server
from tests.protocol.realtime import register
from tests.support.server import ServerProcess


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """The protocol classes with routes of the tests' own, without a hub."""
    with gateway_server(tmp_path_factory.mktemp("gateway") / "output.txt") as running:
        yield running


@pytest.fixture(scope="session")
def token(session_server: ServerProcess) -> str:
    """An access token of an account's first user: of its own account, and no superadmin."""
    return register(session_server, "endpoints@example.com", "Endpoints")["token"]


@pytest.fixture(scope="session")
def refresh_token(session_server: ServerProcess) -> str:
    return register(session_server, "refreshing@example.com", "Refreshing")["refresh_token"]
