"""Follows the orders: everything from the stored position on, and everything that is there when there is none."""

import http.client
import random
import time
from collections.abc import Callable
from typing import Any

from examples.worker.client import Final, Later, Server, Stale
from examples.worker.ledger import Ledger

COLLECTION = "orders"
SUBSCRIPTION = {"collection": COLLECTION, "operations": ["create"]}
LONGEST_WAIT_S = 30.0
TOKEN_ENDED = {"token_expired", "token_revoked", "token_invalid"}


class Follower:
    """`run` returns never; it raises Final when somebody has to do something."""

    def __init__(self, server: Server, ledger: Ledger, *, say: Callable[[str], None] = print) -> None:
        self._server = server
        self._ledger = ledger
        self._say = say

    def run(self) -> None:
        """Follow for ever, and come back after every fault that may pass: later each time, up to half a minute."""
        failures = 0
        while True:
            before = self._ledger.position
            asked_s = 0.0
            try:
                self._once()
                why = "the stream ended"
            except Stale:
                why = "the token ended"
            except Later as error:
                why, asked_s = str(error), error.after_s
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__} {error}"
            # Where it got on, the next failure is a first one again.
            failures = failures + 1 if self._ledger.position == before else 0
            # At random, so that workers that were cut off together do not come back together.
            wait_s = max(asked_s, random.random() * min(LONGEST_WAIT_S, 0.25 * 2 ** min(failures, 10)))
            self._say(f"again in {wait_s:.1f} s: {why}")
            time.sleep(wait_s)

    def _once(self) -> None:
        position = self._ledger.position or self._take_stock()
        orders: list[dict[str, Any]] = []
        for message, place in self._server.stream(SUBSCRIPTION, since=position):
            kind = message["type"]
            if kind == f"{COLLECTION}.create":
                orders.append(message["data"])
            elif kind == "resync":
                self._say(f"resync ({message['reason']}): looking at every order")
                self._ledger.move(None)
                return
            elif kind == "unsubscribed":
                raise Final(f"the subscription ended: {message['reason']}")
            elif kind in ("closing", "error"):
                self._ended(message)
            # A place stands only where nothing is lost by resuming there: never inside a transaction.
            if place is not None:
                self._tell(self._ledger.handle(orders, place))
                orders = []

    def _take_stock(self) -> str:
        """Every order there is, oldest first. What happens meanwhile comes after the position of the first page."""
        query = {"sort": "created_at", "limit": "100", "total": "false"}
        page = self._server.get(f"/records/{COLLECTION}", query)
        position: str = page["position"]
        self._tell(self._ledger.take_over(page["items"]))
        while page["next_cursor"]:
            page = self._server.get(f"/records/{COLLECTION}", {**query, "cursor": page["next_cursor"]})
            self._tell(self._ledger.take_over(page["items"]))
        self._ledger.move(position)
        return position

    def _ended(self, message: dict[str, Any]) -> None:
        """The server says why it is going to end the stream."""
        code, close_code = message["code"], message.get("close_code", 0)
        if code in TOKEN_ENDED:
            self._server.refused()
        if close_code >= 4500:
            raise Final(f"the server ended the stream: {code}")
        raise Later(f"the server ended the stream: {code}", message.get("retry_after_ms", 0) / 1000)

    def _tell(self, numbers: list[int]) -> None:
        for number in numbers:
            self._say(f"invoice {number}")
