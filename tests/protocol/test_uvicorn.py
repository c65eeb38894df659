"""What the gateway relies on in uvicorn, uvloop and httptools, beside their documented interfaces."""

import socket
from typing import Any, cast

import pytest
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from snackbase.config import Settings
from snackbase.gateway.sockets import AddressesOnly, listen


def test_accepted_connections_inherit_how_long_nothing_may_be_acknowledged() -> None:
    (listener,) = listen(Settings(host="127.0.0.1", port=0, realtime_ping_seconds=20, realtime_pong_seconds=7))
    with listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 27_000


@pytest.mark.parametrize(
    ("given", "seen"), [(("::1", 8000, 0, 0), ("::1", 8000)), (("127.0.0.1", 1), ("127.0.0.1", 1))]
)
def test_the_gateway_knows_both_addresses_without_a_socket_object(given: Any, seen: tuple[str, int]) -> None:
    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            assert name != "socket", "uvloop would make one and keep it"
            return given

    transport = cast(Any, AddressesOnly(cast(Any, Transport())))
    assert get_remote_addr(transport) == seen
    assert get_local_addr(transport) == seen
