"""The bus over a real NATS: what is told arrives, whatever else goes on there, and a lost broker comes back."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client

from proof.faults import FaultProxy
from snackbase.bus import nats_
from snackbase.bus.hints import Hints
from snackbase.bus.nats_ import NatsBus, check_url
from snackbase.config import ConfigError
from tests.bus.support import Ear, change
from tests.support.nats import NatsServer

SECRET = b"s" * 32


class Node:
    """A bus with its ear, running."""

    def __init__(self, url: str, name: str, *, secret: bytes = SECRET, prefix: str = "sb") -> None:
        self.tally: dict[str, int] = {}
        self.ear = Ear()
        hints = Hints(secret, node=name)
        self.bus = NatsBus(url, prefix=prefix, hints=hints, lineage=lambda: "e1", tally=self.tally)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Node":
        self._running = asyncio.create_task(self.bus.run(self.ear))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.bus.close()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def follow(self, *accounts: str) -> None:
        """Returns when hints of these accounts arrive."""
        for account in accounts:
            self.bus.watch(account)
        await self.ear.until(lambda: set(accounts) <= set(self.ear.watched), f"follow {accounts}")

    async def until_up(self) -> None:
        await soon(lambda: self.bus.up, "up")

    async def hears(self, seq: int) -> None:
        await self.ear.until(lambda: any(one.seq == seq for one in self.ear.changes), f"change {seq}")


async def soon(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as server:
        yield server


async def test_what_one_node_tells_the_other_hears_and_nobody_hears_itself(nats: NatsServer) -> None:
    async with Node(nats.url, "n1") as one, Node(nats.url, "n2") as two:
        await one.follow("a")
        await two.follow("a")
        one.bus.publish([change(1), change(1, "b"), change(2)], 4)
        await two.hears(2)
        assert two.ear.changes == [change(1), change(2)]
        two.bus.publish([change(3)], 4)
        await one.hears(3)
        assert [one.seq for one in one.ear.changes] == [3]
        two.bus.publish_version(5)
        await one.ear.until(lambda: one.ear.versions == [5], "version 5")
        assert one.tally == {"sent": 2, "received": 1, "versions": 1}


async def test_only_accounts_with_somebody_here_are_heard(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_, "LINGER_S", 0.1)
    async with Node(nats.url, "n1") as one, Node(nats.url, "n2") as two:
        await one.until_up()
        await two.follow("a", "b")
        two.bus.unwatch("a")
        await soon(lambda: two.bus.watched == 1, "given up")
        await asyncio.sleep(0)
        assert two.bus._client is not None
        await nats_._settled(two.bus._client)
        one.bus.publish([change(1), change(1, "b")], 1)
        await two.hears(1)
        assert [heard.account_id for heard in two.ear.changes] == ["b"]
        two.ear.watched.clear()
        await two.follow("a")
        one.bus.publish([change(2)], 1)
        await two.hears(2)


async def test_who_comes_back_soon_was_never_unfollowed(nats: NatsServer) -> None:
    async with Node(nats.url, "n1") as one, Node(nats.url, "n2") as two:
        await one.until_up()
        await two.follow("a")
        two.bus.unwatch("a")
        two.bus.watch("a")
        one.bus.publish([change(1)], 1)
        await two.hears(1)
        assert two.ear.watched == ["a"]


async def test_a_broker_that_dies_and_comes_back_is_found_again_with_all_accounts(nats: NatsServer) -> None:
    async with Node(nats.url, "n1") as one, Node(nats.url, "n2") as two:
        await one.follow("a")
        await two.follow("a")
        await nats.kill()
        await soon(lambda: not one.bus.up and not two.bus.up, "down")
        one.bus.publish([change(1)], 1)
        assert one.tally["not_sent"] == 1
        two.bus.watch("b")
        await nats.start()
        await soon(lambda: two.ear.watched == ["a", "a", "b"], "followed again, and told to look")
        await one.until_up()
        one.bus.publish([change(2), change(2, "b")], 1)
        await two.ear.until(lambda: len(two.ear.changes) == 2, "both")


async def test_a_node_that_starts_before_the_broker_waits_for_it(tmp_path: Path) -> None:
    nats = NatsServer(tmp_path)
    async with Node(nats.url, "n1") as one:
        one.bus.watch("a")
        await asyncio.sleep(0.3)
        assert not one.bus.up
        await nats.start()
        await one.follow("a")
    await nats.kill()


async def test_a_broker_that_says_nothing_keeps_nobody_from_publishing_and_is_left(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_, "PING_S", 0.2)
    monkeypatch.setattr(nats_, "MOST_WAITING", 1 << 20)
    async with FaultProxy(nats.port) as proxy, Node(f"nats://127.0.0.1:{proxy.port}", "n1") as one:
        await one.follow("a")
        proxy.stall()
        for seq in range(200):
            one.bus.publish([change(seq, text="x" * 50_000)], 1)
        assert one.bus._waiting_bytes <= 1 << 20
        assert one.tally["not_sent"] > 100
        await soon(lambda: not one.bus.up, "left")
        proxy.heal()
        await one.ear.until(lambda: one.ear.watched == ["a", "a"], "found again")


async def test_messages_that_are_no_hints_are_counted_and_change_nothing(nats: NatsServer) -> None:
    async with Node(nats.url, "n1") as one, Node(nats.url, "n2", secret=b"other" * 8) as stranger:
        await one.follow("a")
        await stranger.until_up()
        raw = Client()
        await raw.connect(nats.url)
        for message in (b"", b"hello", b"sb1" + b"\0" * 100, b"x" * 500_000):
            await raw.publish("sb.account.a", message)
        await raw.close()
        stranger.bus.publish([change(1)], 9)
        await soon(lambda: sum(one.tally.values()) == 5, "five messages")
        assert one.tally == {"malformed": 3, "forged": 2}
        assert one.ear.changes == []


async def test_two_installations_with_prefixes_of_their_own_do_not_hear_each_other(nats: NatsServer) -> None:
    async with (
        Node(nats.url, "n1", prefix="x") as one,
        Node(nats.url, "n2", prefix="y") as two,
        Node(nats.url, "n3", prefix="x") as three,
    ):
        await two.follow("a")
        await three.follow("a")
        await one.until_up()
        one.bus.publish([change(1)], 1)
        await three.hears(1)
        assert two.tally == {}


async def test_what_a_node_told_last_is_sent_before_it_goes(nats: NatsServer) -> None:
    async with Node(nats.url, "n2") as two:
        await two.follow("a")
        async with Node(nats.url, "n1") as one:
            await one.until_up()
            one.bus.publish([change(1)], 1)
        await two.hears(1)


async def test_a_password_in_the_url_is_used_and_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with NatsServer(tmp_path, arguments=("--user", "me", "--pass", "very-secret")) as nats:
        url = f"nats://me:very-secret@127.0.0.1:{nats.port}"
        async with Node(url, "n1") as one, Node(url.replace("very", "not"), "n2") as two:
            await one.follow("a")
            await asyncio.sleep(0.3)
            assert not two.bus.up
    shown = capsys.readouterr()
    assert "bus_up" in shown.out + shown.err
    assert "bus_down" in shown.out + shown.err
    assert "secret" not in shown.out + shown.err


@pytest.mark.parametrize("url", ["redis://h:1", "nats://", "h:4222", "nats://u:topsecret@h:port", "nats://a:1,x"])
def test_a_url_that_cannot_be_one_of_nats_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="SNACKBASE_BUS_URL") as refusal:
        check_url(url)
    assert "topsecret" not in str(refusal.value)


def test_urls_of_a_cluster_are_taken() -> None:
    check_url("nats://a:4222, tls://user:word@b:4222")


def test_a_line_that_breaks_with_hints_on_their_way_leaves_nothing_behind(tmp_path: Path) -> None:
    """Under uvloop, as servers run: its closed transports refuse what nats-py still wants to send."""
    complaints: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        async with (
            NatsServer(tmp_path) as nats,
            FaultProxy(nats.port) as line,
            Node(f"nats://127.0.0.1:{line.port}", "n1") as node,
        ):
            await node.follow("a", "b", "c")
            before = len(asyncio.all_tasks())
            for connections in range(2, 5):
                line.stall()
                dropped = node.tally.get("not_sent", 0)
                # Until the kernel, nats-py and the bus all hold as much as they may.
                while node.tally.get("not_sent", 0) < dropped + 100:
                    node.bus.publish([change(1, text="x" * 50_000)], 1)
                    await asyncio.sleep(0)
                line.reset()
                await soon(lambda: not node.bus.up, "down")
                line.heal()
                await node.ear.until(lambda wanted=connections: node.ear.connections >= wanted, "up again")
            await soon(lambda: len(asyncio.all_tasks()) <= before, "as many tasks as before")
        gc.collect()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert complaints == []


async def lines_with(word: str, capsys: pytest.CaptureFixture[str], lines: list[str]) -> list[str]:
    """Lines of the log with a word, as soon as there are any."""
    async with asyncio.timeout(30):
        while not any(word in line for line in lines):
            shown = capsys.readouterr()
            lines += (shown.out + shown.err).splitlines()
            await asyncio.sleep(0.01)
    return [line for line in lines if word in line]


async def test_the_log_says_why_the_broker_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with NatsServer(tmp_path, arguments=("--user", "me", "--pass", "very-secret")) as nats:
        async with Node(f"nats://me:topsecret@127.0.0.1:{nats.port}", "n1"):
            assert "Authorization Violation" in (await lines_with("bus_down", capsys, []))[0]
        assert await nats_.refusal(f"nats://me:topsecret@127.0.0.1:{nats.port}") == "Error: Authorization Violation"
        assert await nats_.refusal(f"nats://me:very-secret@127.0.0.1:{nats.port}") is None
    async with Node(nats.url, "n2"):
        assert "ConnectionRefusedError" in (await lines_with("bus_down", capsys, []))[0]
    assert "ConnectionRefusedError" in (await nats_.refusal(nats.url) or "")


async def test_a_broker_that_lets_the_user_in_but_not_to_the_subjects_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The connection is up then, and nothing ever arrives."""
    rights = tmp_path / "nats.conf"
    rights.write_text(
        'authorization { users = [ { user: me, password: word, permissions: { subscribe: "a.>", publish: "a.>" } } ] }'
    )
    async with (
        NatsServer(tmp_path, arguments=("-c", str(rights))) as nats,
        Node(f"nats://me:word@127.0.0.1:{nats.port}", "n1") as one,
    ):
        await one.follow("a", "b", "c")
        one.bus.publish([change(1)], 1)
        await soon(lambda: one.tally.get("forbidden", 0) == 5, "the versions, three accounts, one hint")
        told: list[str] = []
        await lines_with("for publish", capsys, told)
        assert sum("bus_forbidden" in line for line in told) == 2
        assert sum("for subscription" in line for line in told) == 1


async def test_where_tls_is_asked_for_no_password_goes_over_an_open_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        NatsServer(tmp_path, arguments=("--user", "me", "--pass", "word")) as nats,
        FaultProxy(nats.port) as line,
        Node(f"tls://me:word@127.0.0.1:{line.port}", "n1") as one,
    ):
        assert "does not ask for TLS" in (await lines_with("bus_down", capsys, []))[0]
        assert not one.bus.up
