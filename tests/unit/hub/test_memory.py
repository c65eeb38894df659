"""What an idle connection keeps: a bound, since 10,000 of them are the ordinary case."""

import asyncio
import gc
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from snackbase.gateway.frames import FrameParser
from snackbase.gateway.link import Reading, WebSocketLink
from snackbase.gateway.wire import TEXT, WEBSOCKET
from snackbase.hub import Connection, Opening
from snackbase.model import Rules
from tests.protocol.raw import client_frame
from tests.storage.support import text

from .support import House, Person, house, person

MANY = 400
MOST_BYTES = 2500
"""Beside what uvloop (1.2 KB), the socket, the claims and the principal keep. Measured: 2,240; 3,800 with a dictionary
for each group, variant and index entry of one."""
OWNER = Rules(list_rule="owner = @request.auth.id", view_rule="", create_rule="", update_rule="", delete_rule="")


class Transport:
    """As much of one as a link uses."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def writelines(self, frames: Sequence[bytes]) -> None:
        for data in frames:
            self.write(data)

    def get_extra_info(self, name: str) -> None:
        """Neither TLS nor a socket."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """What is sent is handed over by the test."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


async def _connected(
    home: House, who: Person, transport: Transport, registry: set[Any], reading: Reading
) -> Connection:
    connection = await home.hub.open(Opening(wire=WEBSOCKET, address="127.0.0.1", authenticated=who))
    maker = FrameParser.maker(max_message_bytes=65536)
    connection.attach(
        WebSocketLink(cast(asyncio.Transport, transport), connection, registry, parser=maker, reading=reading)
    )
    link = cast(WebSocketLink, connection.link)
    link.data_received(client_frame(TEXT, b'{"action":"subscribe","collection":"posts"}'))
    while connection.inbox is not None:  # noqa: ASYNC110 - of many at once some wait for a turn of the loop
        await asyncio.sleep(0)
    return connection


async def test_an_idle_connection_with_a_view_of_its_own_keeps_little(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as home:
        await home.collection("posts", text("owner"), rules=OWNER)
        account = await home.account("acme")
        people = [person(f"0b58e5f0-0000-4000-8000-{number:012}", account) for number in range(MANY + 50)]
        home.people |= {who.claims.user_id: who for who in people}
        registry: set[Any] = set()
        reading = Reading(2 * MANY)
        transports = [Transport() for _ in people]
        pairs = list(zip(people, transports, strict=True))
        for who, transport in pairs[:50]:
            await _connected(home, who, transport, registry, reading)
        gc.collect()
        tracemalloc.start()
        try:
            for who, transport in pairs[50:]:
                await _connected(home, who, transport, registry, reading)
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert all(transport.written for transport in transports), "everybody was acknowledged"
        assert kept / MANY <= MOST_BYTES


async def test_between_messages_a_connection_has_no_frame_parser_and_in_one_it_has(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as home:
        await home.collection("posts", text("owner"), rules=OWNER)
        who = person("ann", await home.account("acme"))
        home.people["ann"] = who
        transport = Transport()
        connection = await _connected(home, who, transport, set(), Reading(2 * MANY))
        link = cast(WebSocketLink, connection.link)
        message = client_frame(TEXT, b'{"action":"ping"}')
        acknowledged = transport.written
        parsing = [link._parser is not None]
        for byte in message:
            assert transport.written == acknowledged
            link.data_received(bytes([byte]))
            parsing.append(link._parser is not None)
        assert parsing == [False, *[True] * (len(message) - 1), False]
        assert transport.written > acknowledged


async def test_what_is_equal_for_all_who_subscribe_is_kept_once(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as home:
        await home.collection("posts", text("owner"), rules=OWNER)
        account = await home.account("acme")
        one, other = [await home.client(person(name, account)) for name in ("ann", "bob")]
        for client in (one, other):
            client.send(action="subscribe", collection="posts", operations=["create"])
        (first,), (second,) = (client.connection.subscriptions.values() for client in (one, other))
        assert first.request is second.request
        assert first.claims is second.claims
        assert first.membership is not None
        assert second.membership is not None
        assert first.membership.look is second.membership.look
        assert first.membership.group is not second.membership.group
        assert one.connection.address is other.connection.address
