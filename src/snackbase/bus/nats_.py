"""NATS as the bus: a subject per account, followed only while somebody here follows the account.

Core NATS, no JetStream: the durable log is in the database already, and two would be two truths. The connection is
made and remade here, with a pause that grows and is never the same for two nodes; nats-py's own reconnecting is off,
so that every new connection begins with all subscriptions and a look at the heads of all accounts. Nothing of the
URL but hosts is ever logged.
"""

import asyncio
import contextlib
import random
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from snackbase.bus.base import Listener
from snackbase.bus.hints import MOST_BYTES, Hints, Refused, changes_of
from snackbase.config import ConfigError
from snackbase.metrics import add
from snackbase.model import Change

log = structlog.get_logger("snackbase.bus")

MOST_WAITING = 8 << 20
"""Bytes that may wait to be sent; above, hints are dropped and the others find out by looking."""
PENDING_MESSAGES, PENDING_BYTES = 2000, 16 << 20
"""Of one account, heard and not yet handed on."""
LINGER_S = 10.0
"""How long an account is still followed when its last client went: many come back at once."""
CONNECT_S = 3.0
CLOSE_S = 1.0
PING_S, PINGS = 2, 2
"""A connection whose other end went away without a word is noticed within (PINGS + 1) * PING_S."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
COMPLAIN_S = 60.0
SCHEMES = ("nats", "tls")
VERSIONS = "versions"
FORBIDDEN = "permissions violation"
"""In the broker's word for a subject that the user may not read or write."""


class _Client(Client):
    """nats-py's client, which ends also when its connection broke with something left to be sent, and sends no password
    through an open line where `tls://` was asked for.

    It writes what is left first, which a closed transport of uvloop's answers with RuntimeError; then neither its
    callbacks are called nor the task of each subscription ended. By itself it encrypts only when the server wants to.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        wanted = initial_connection and server is not None and server.uri.scheme == "tls"
        if wanted and not info.get("tls_required"):
            raise NatsError("nats: 'the server does not ask for TLS'")
        await super()._process_info(info, initial_connection)

    async def _process_op_err(self, e: Exception) -> None:
        self._forget()
        await super()._process_op_err(e)

    async def give_up(self) -> None:
        """Close, and send nothing any more."""
        self._forget()
        await self.close()

    def _forget(self) -> None:
        self._pending, self._pending_data_size = [], 0


class NatsBus:
    """
    Args:
        url: nats://user:password@host:port or tls://…, several separated by commas.
        prefix: what all subjects begin with; one for each installation on a shared NATS.
        lineage: of the history in force. tally: counts hints by what became of them.
    """

    configured = True

    def __init__(
        self, url: str, *, prefix: str, hints: Hints, lineage: Callable[[], str], tally: dict[str, int]
    ) -> None:
        self._servers = [one.strip() for one in url.split(",") if one.strip()]
        self._where = ", ".join(_host(one) for one in self._servers)
        self._prefix = prefix
        self._hints = hints
        self._lineage = lineage
        self._tally = tally
        self._client: Client | None = None
        self._up = False
        self._closing = False
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._watched: dict[str, float | None] = {}
        """Account id -> since when nobody follows it; None = somebody does."""
        self._news = asyncio.Event()
        self._complained_at = -COMPLAIN_S
        self._warned: set[str] = set()
        self._failure = ""

    @property
    def up(self) -> bool:
        return self._up

    @property
    def watched(self) -> int:
        """Accounts that are followed."""
        return len(self._watched)

    # What this node did ----------------------------------------------------------------------------------------------

    def publish(self, changes: Sequence[Change], version: int) -> None:
        if not self._up:
            add(self._tally, "not_sent", len(changes))
            return
        accounts: dict[str, list[Change]] = {}
        for change in changes:
            accounts.setdefault(change.account_id, []).append(change)
        for account_id, rows in accounts.items():
            subject = self._subject(account_id)
            for message in self._hints.pack(self._lineage(), version, rows):
                self._put(subject, message)

    def publish_version(self, version: int) -> None:
        if self._up:
            self._put(f"{self._prefix}.{VERSIONS}", self._hints.pack_version(self._lineage(), version))

    def _put(self, subject: str, message: bytes) -> None:
        if self._waiting_bytes + len(message) > MOST_WAITING:
            add(self._tally, "not_sent")
            return
        self._outgoing.append((subject, message))
        self._waiting_bytes += len(message)
        self._something.set()

    # What others did -------------------------------------------------------------------------------------------------

    def watch(self, account_id: str) -> None:
        if account_id not in self._watched:
            self._news.set()
        self._watched[account_id] = None

    def unwatch(self, account_id: str) -> None:
        if not self._up:
            self._watched.pop(account_id, None)
        elif account_id in self._watched:
            self._watched[account_id] = time.monotonic()

    async def _received(self, listener: Listener, message: Msg) -> None:
        """One message of the broker. Never raises: whatever it is, the next one is heard."""
        try:
            hint = self._hints.unpack(message.data, self._lineage())
            changes = changes_of(hint)
        except Refused as refused:
            self._refuse(refused.word)
            return
        if not hint.account_id:
            add(self._tally, "versions")
            listener.version_hinted(hint.version)
        elif changes:
            add(self._tally, "received", len(changes))
            listener.heard(changes, hint.version)
        else:
            add(self._tally, "heads")
            listener.hinted({hint.account_id: hint.head})

    def _refuse(self, word: str) -> None:
        add(self._tally, word)
        if word == "forged" and word not in self._warned:
            self._warned.add(word)
            log.warning("bus_forged_hint", hint="every node needs the same SNACKBASE_SECRET_KEY")

    def _forbidden(self, text: str) -> None:
        """The broker lets this user in, but not to the subjects: the connection is up, and of no use."""
        add(self._tally, "forbidden")
        word = f"{FORBIDDEN} for {text.partition(' for ')[2].partition(' ')[0]}"
        if word not in self._warned:
            self._warned.add(word)
            log.warning("bus_forbidden", reason=word, hint=f"the user needs the subjects {self._prefix}.>")

    # The connection --------------------------------------------------------------------------------------------------

    async def run(self, listener: Listener) -> None:
        failures = 0
        while not self._closing:
            began = time.monotonic()
            self._failure = ""
            client = _Client()
            lost = asyncio.Event()
            try:
                await self._connect(client, lost)
                await self._carry(client, lost, listener)
                reason = "connection lost"
            except Exception as error:
                # Whatever it is, the next try may go well. What the library ends with says less than what it met.
                reason = self._failure or _reason(error)
            finally:
                self._up = False
                self._client = None
                self._forget_outgoing()
                await _close(client.give_up)
            failures = 0 if time.monotonic() - began > LONGEST_PAUSE_S else failures + 1
            self._complain(reason, failures)
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 10))
            await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret

    async def close(self) -> None:
        """Send what waits, as far as that goes quickly."""
        self._closing = True
        client = self._client
        if client is not None and self._up:
            with contextlib.suppress(OSError, NatsError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._send_waiting(client)
                    await client.flush(timeout=1)
            await _close(client.close)

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def closed() -> None:
            lost.set()

        async def failed(error: Exception) -> None:
            if isinstance(error, SlowConsumerError):
                add(self._tally, "overrun")
            elif FORBIDDEN in str(error):
                self._forbidden(str(error))
            else:
                self._failure = _reason(error)

        async with asyncio.timeout(CONNECT_S):
            await client.connect(
                servers=self._servers,
                error_cb=failed,
                disconnected_cb=closed,
                closed_cb=closed,
                name="snackbase",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS,
                no_echo=True,
                pending_size=MOST_BYTES * 4,
            )

    async def _carry(self, client: Client, lost: asyncio.Event, listener: Listener) -> None:
        """One connection, to its end."""
        self._client = client
        self._news.set()
        ended = asyncio.create_task(lost.wait())
        tasks = [
            ended,
            asyncio.create_task(self._follow(client, listener)),
            asyncio.create_task(self._send(client)),
        ]
        try:
            # nats-py may hang while it closes a connection whose other end does not read: it is looked at as well.
            while not client.is_closed:
                done, _ = await asyncio.wait(tasks, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if done:
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, client: Client) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            await self._send_waiting(client)

    async def _send_waiting(self, client: Client) -> None:
        while self._outgoing:
            subject, message = self._outgoing.popleft()
            self._waiting_bytes -= len(message)
            if len(message) > client.max_payload:
                add(self._tally, "not_sent")
                continue
            await client.publish(subject, message)
            add(self._tally, "sent")

    def _forget_outgoing(self) -> None:
        if self._outgoing:
            add(self._tally, "not_sent", len(self._outgoing))
        self._outgoing.clear()
        self._waiting_bytes = 0

    async def _follow(self, client: Client, listener: Listener) -> None:
        """Keep the subscriptions as the watched accounts are; tell what is followed from now on."""
        received = partial(self._received, listener)
        followed = {VERSIONS: await client.subscribe(f"{self._prefix}.{VERSIONS}", cb=received)}
        await _settled(client)
        self._up = True
        log.info("bus_up", servers=self._where)
        fresh = list(self._watched)
        while True:
            self._news.clear()
            for number, account_id in enumerate(fresh):
                followed[account_id] = await client.subscribe(
                    self._subject(account_id),
                    cb=received,
                    pending_msgs_limit=PENDING_MESSAGES,
                    pending_bytes_limit=PENDING_BYTES,
                )
                if number % 100 == 99:
                    await asyncio.sleep(0)
            if fresh:
                await _settled(client)
                await listener.reconnected(fresh)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S / 4):
                    await self._news.wait()
            for account_id in self._given_up():
                if account_id in followed:
                    await followed.pop(account_id).unsubscribe()
            fresh = [account_id for account_id in self._watched if account_id not in followed]

    def _given_up(self) -> list[str]:
        """Accounts that nobody has followed for a while; they are forgotten."""
        before = time.monotonic() - LINGER_S
        gone = [account_id for account_id, since in self._watched.items() if since is not None and since < before]
        for account_id in gone:
            del self._watched[account_id]
        return gone

    def _subject(self, account_id: str) -> str:
        return f"{self._prefix}.account.{account_id}"

    def _complain(self, reason: str, failures: int) -> None:
        if self._closing:
            return
        if failures <= 1 or time.monotonic() - self._complained_at > COMPLAIN_S:
            self._complained_at = time.monotonic()
            log.warning("bus_down", servers=self._where, reason=reason, hint="events come from the log until it is up")


def check_url(url: str) -> None:
    """Raises ConfigError, without the URL's secrets, when it cannot be one of NATS."""
    for one in url.split(","):
        try:
            parts = urlsplit(one.strip())
            usable = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError("SNACKBASE_BUS_URL: nats://host:port or tls://host:port, several separated by commas")


def _host(url: str) -> str:
    """What of a URL may be shown."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _reason(error: BaseException) -> str:
    """Why a connection failed. Texts of the library may hold parts of the URL; those of the system hold an address."""
    said = re.search(r"'([\w .-]+)'", str(error)) if isinstance(error, NatsError) else None
    text = said[1] if said else error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def refusal(url: str) -> str | None:
    """Why no server of a URL can be used, after one try; None = one can."""
    met: list[str] = []
    client = _Client()

    async def failed(error: Exception) -> None:
        met.append(_reason(error))

    try:
        async with asyncio.timeout(CONNECT_S):
            servers = [one.strip() for one in url.split(",")]
            await client.connect(servers, error_cb=failed, allow_reconnect=False, max_reconnect_attempts=1)
            await client.flush(timeout=int(CONNECT_S))
    except Exception as error:
        return met[-1] if met else _reason(error)
    finally:
        await _close(client.give_up)
    return None


async def _settled(client: Client) -> None:
    """Return when the broker has taken everything that was asked of it.

    Twice, since nats-py sends a PING before what still waits to be written: only the second one's answer is of use.
    """
    for _ in range(2):
        await client.flush(timeout=int(CONNECT_S))


async def _close(close: Callable[[], Awaitable[None]]) -> None:
    # Whatever goes wrong: what comes next is another connection, or the end.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_S):
            await close()
