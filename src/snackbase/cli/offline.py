"""Work on the data folder without a server: whoever can write the folder can do everything anyway."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from snackbase.app import Core, open_core
from snackbase.config import load
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal

T = TypeVar("T")

OPERATOR = Principal(kind="system", account_id=SYSTEM_ACCOUNT_ID, superadmin=True)


def with_core(work: Callable[[Core], Awaitable[T]]) -> T:
    """Run work on the data folder, whether a server runs on it or not."""

    async def run() -> T:
        core = await open_core(load(os.environ, dotenv=Path(".env")))
        try:
            await core.load()
            return await work(core)
        finally:
            await core.close()

    return asyncio.run(run())
