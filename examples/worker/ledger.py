"""What the worker does for each order, and how far it is: both in one SQLite file, and always in one transaction.

That is all there is to "exactly once": after a crash the position is the one that belongs to what was done. An effect
outside of this file (an e-mail, a payment) cannot be in the transaction; write down here that it is to be done, and let
something that can look whether it was done before do it.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), position TEXT, handled INTEGER NOT NULL);
INSERT INTO place SELECT 1, NULL, 0 WHERE NOT EXISTS (SELECT * FROM place);
CREATE TABLE IF NOT EXISTS invoices (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL UNIQUE,
    amount REAL
);
"""
Record = dict[str, Any]


class Ledger:
    """Invoices in the order in which the orders were made, numbered without a gap."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    @property
    def position(self) -> str | None:
        """Everything up to there is done; None: nothing is known, so every record has to be looked at."""
        return str(found) if (found := self._db.execute("SELECT position FROM place").fetchone()[0]) else None

    def handle(self, orders: Iterable[Record], position: str) -> list[int]:
        """The orders of events, and the position after the last one. Returns the numbers of new invoices."""
        with self._transaction():
            made = [self._invoice(order) for order in orders]
            self._db.execute("UPDATE place SET position = ?, handled = handled + ?", (position, len(made)))
        return [number for number in made if number is not None]

    def take_over(self, orders: Iterable[Record]) -> list[int]:
        """Orders out of a list, of which some or all are done already. The position stays."""
        with self._transaction():
            made = [self._invoice(order) for order in orders]
        return [number for number in made if number is not None]

    def move(self, position: str | None) -> None:
        """Only the position."""
        self._db.execute("UPDATE place SET position = ?", (position,))

    def _invoice(self, order: Record) -> int | None:
        """None: it is there. That happens to orders that were made while a list was being read."""
        insert = "INSERT INTO invoices (order_id, amount) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING number"
        row = self._db.execute(insert, (order["id"], order.get("amount"))).fetchone()
        return int(row[0]) if row else None

    def _transaction(self) -> sqlite3.Connection:
        """To be used with `with`: commits, or rolls back when something was raised."""
        self._db.execute("BEGIN IMMEDIATE")
        return self._db
