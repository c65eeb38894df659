"""Reading from many WebSockets: a few in each turn of the loop, everything in order, nothing lost at the end."""

import asyncio
import contextlib
import socket
from functools import partial

import pytest

from snackbase.gateway.frames import FrameParser
from snackbase.gateway.link import Reading, WebSocketLink
from tests.protocol.links import LOOPS, Reluctant, Server, connect, read, run
from tests.protocol.raw import CLOSE, TEXT, client_frame


def server(reading: Reading) -> Server:
    parser = FrameParser.maker(max_message_bytes=65536)
    return Server(make=partial(WebSocketLink, parser=parser, reading=reading))


@pytest.mark.parametrize("loop", LOOPS)
def test_of_many_who_send_in_one_moment_only_some_are_read_in_one_turn_of_the_loop(loop: str) -> None:
    async def test(server: Server) -> None:
        port = await server.start()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(20)]
            listeners = [(await server.link())[1] for _ in clients]
            for client in clients:
                client.send(client_frame(TEXT, b"a") + client_frame(TEXT, b"b"))
            heard, waves = 0, []
            while heard < 40:
                await asyncio.sleep(0)
                before, heard = heard, sum(len(listener.heard) for listener in listeners)
                waves.append(heard - before)

        assert [listener.heard for listener in listeners] == [[b"a", b"b"]] * 20
        assert max(waves) <= 2 * 3 * 2, "in a turn begun and in the one before it"

    run(loop, test, server(Reading(3)))


@pytest.mark.parametrize("loop", LOOPS)
def test_who_sends_on_while_waiting_for_a_turn_is_not_read_any_more_and_then_heard_in_order(loop: str) -> None:
    turns = Reluctant()
    messages = [b"%05d" % number + b"x" * 10_000 for number in range(1000)]

    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            link, listener = await server.link()
            sending = asyncio.ensure_future(
                asyncio.to_thread(client.sendall, b"".join(client_frame(TEXT, message) for message in messages))
            )
            while link._transport.is_reading():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            assert listener.heard == []
            while len(listener.heard) < len(messages):
                turns.asked.clear()
                turns.come()
                await turns.asked.wait() if len(listener.heard) < len(messages) else None
            await sending

        assert listener.heard == messages

    run(loop, test, server(turns))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_of_all_together_is_bounded(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snackbase.gateway.link.MOST_WAITING_BYTES", 3 * 1008)
    reading = Reluctant()

    async def test(server: Server) -> None:
        port = await server.start()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(5)]
            listeners = [(await server.link())[1] for _ in clients]
            for number, client in enumerate(clients):
                client.send(client_frame(TEXT, b"%d" % number * 1000))
            while sum(len(listener.heard) for listener in listeners) < 2:  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(0)
            assert len(reading.calls) == 3
            reading.come()

        assert [listener.heard for listener in listeners] == [[b"%d" % number * 1000] for number in range(5)]

    run(loop, test, server(reading))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_says_nothing_more_behind_its_close_frame_still_gets_the_answer(loop: str) -> None:
    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            _, listener = await server.link()
            client.send(client_frame(CLOSE, b"\x03\xe8"))
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(read, client, 100) == b"\x88\x02\x03\xe8"
            await listener.ended.wait()

    run(loop, test, server(Reluctant()))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("farewell", [b"", client_frame(CLOSE, b"")], ids=["without", "with"])
def test_what_came_before_the_end_is_heard_before_it(loop: str, farewell: bytes) -> None:
    turns = Reluctant()

    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            _, listener = await server.link()
            client.send(client_frame(TEXT, b"last words") + farewell)
            await turns.asked.wait()
        await listener.ended.wait()
        turns.come()

        assert listener.heard == [b"last words"]

    run(loop, test, server(turns))
