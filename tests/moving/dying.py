"""A move that sends itself a signal at a point: `python -m tests.moving.dying FILE URL SIGKILL "moved c_kinds"`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from snackbase.storage.moving.folder import FolderSource
from snackbase.storage.moving.move import Move
from snackbase.storage.moving.server import ServerTarget
from snackbase.storage.postgres.link import Server


def main(file: str, url: str, name: str, point: str) -> None:
    def report(doing: str, table: str, _rows: int, _total: int) -> None:
        if f"{doing} {table}" == point:
            os.kill(os.getpid(), signal.Signals[name])

    target = ServerTarget(Server(url=url), new_epoch="fresh1", now_us=1_700_000_000_000_000)
    asyncio.run(Move(FolderSource(Path(file)), target, report).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
