"""Writing past the transport: the same bytes, in order, whatever the kernel takes and whoever owns the descriptor."""

import asyncio
import random
import socket
import ssl
import threading

import pytest

from tests.protocol.links import LOOPS, Server, connect, read, run


def same(received: bytes, expected: bytes) -> None:
    """Equal, or where they begin to differ: megabytes side by side say nothing."""
    assert len(received) == len(expected)
    if received != expected:
        at = next(place for place, (one, other) in enumerate(zip(received, expected, strict=True)) if one != other)
        raise AssertionError(f"from byte {at} on: {received[at : at + 20]!r} instead of {expected[at : at + 20]!r}")


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_arrive_once_and_in_order_while_the_kernel_takes_some_of_a_write_or_nothing(loop: str) -> None:
    chance = random.Random(7)
    head = b"head" * 100_000
    frames = [b"%07d" % number * chance.choice((1, 20, 900)) for number in range(2000)]
    expected = head + b"".join(frames)

    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            link, _ = await server.link()
            received = asyncio.ensure_future(asyncio.to_thread(read, client, len(expected)))
            ways, left = set(), list(frames)
            while left:
                count = chance.choice((1, 1, 3, 40))
                now, left = left[:count], left[count:]
                before = link._direct is not None
                unsent = link.write(now)
                assert unsent == link.buffered()
                ways.add((before, unsent > 0))
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
                while link.buffered() > 200_000:  # noqa: ASYNC110 - the kernel tells listener what it took
                    await asyncio.sleep(0.001)
            same(await received, expected)
            assert ways == {(True, False), (True, True), (False, False), (False, True)}

    run(loop, test, Server(first=head))


@pytest.mark.parametrize("loop", LOOPS)
def test_more_frames_than_one_system_call_takes_are_all_written(loop: str) -> None:
    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            link, _ = await server.link()
            assert link.write([b"first"]) == 0
            frames = [b"%05d" % number for number in range(2500)]
            link.write(frames)
            expected = b"first" + b"".join(frames)
            same(await asyncio.to_thread(read, client, len(expected)), expected)

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_end_comes_after_everything_that_was_written(loop: str) -> None:
    async def test(server: Server) -> None:
        with connect(await server.start()) as client:
            link, listener = await server.link()
            link.write([b"first"])
            unsent = link.write([b"x" * 3_000_000])
            assert unsent
            link._transport.close()
            assert len(await asyncio.to_thread(read, client, 10_000_000)) == 3_000_005
            await listener.ended.wait()
        assert link.buffered() == 0

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_after_its_end_a_connection_writes_nothing_to_who_got_its_descriptor(loop: str) -> None:
    async def test(server: Server) -> None:
        client = connect(await server.start())
        link, listener = await server.link()
        link.write([b"first"])
        link.write([b"second"])
        assert link._socket is not None
        number = link._socket.fileno()
        client.close()
        await listener.ended.wait()
        kept = list[socket.socket]()
        while True:
            # The transport closes its descriptor soon after; the kernel gives the lowest free number.
            await asyncio.sleep(0)
            ours, theirs = socket.socketpair()
            if number in (ours.fileno(), theirs.fileno()):
                break
            kept += (ours, theirs)
        mine, other = (ours, theirs) if ours.fileno() == number else (theirs, ours)
        assert link.write([b"third"]) == 0
        del link
        mine.send(b"mine")
        assert other.recv(100) == b"mine"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)
        for one in (mine, other, *kept):
            one.close()

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_the_client_reset_is_lost_at_the_next_write(loop: str) -> None:
    async def test(server: Server) -> None:
        client = connect(await server.start())
        link, listener = await server.link()
        link.write([b"first"])
        assert await asyncio.to_thread(read, client, 5) == b"first"
        link.pause_reading()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        while not listener.ended.is_set():
            link.write([b"more"])
            await asyncio.sleep(0)
        assert link.write([b"late"]) == 0

    run(loop, test)


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates: encrypted all the same."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("loop", LOOPS)
def test_under_tls_every_byte_is_encrypted(loop: str) -> None:
    async def test(server: Server) -> None:
        port = await server.start()
        shaken, received = asyncio.Event(), list[bytes]()
        here = asyncio.get_running_loop()

        def talk() -> None:
            with anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(connect(port)) as client:
                here.call_soon_threadsafe(shaken.set)
                received.append(read(client, 15))

        client = threading.Thread(target=talk)
        client.start()
        await shaken.wait()
        link, _ = await server.link()
        for word in (b"first", b"other", b"third"):
            link.write([word])
            await asyncio.sleep(0)
        await asyncio.to_thread(client.join)
        assert received == [b"firstotherthird"]

    run(loop, test, Server(tls=anonymous(ssl.PROTOCOL_TLS_SERVER)))
