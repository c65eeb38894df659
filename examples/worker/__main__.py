"""`python -m examples.worker`: one invoice for each order, for ever. Its settings are WORKER_* variables."""

import os
import sys
from functools import partial

from examples.worker.client import Credentials, Final, Key, Login, Server
from examples.worker.follow import Follower
from examples.worker.ledger import Ledger

USAGE = "Set WORKER_KEY to an API key, or WORKER_ACCOUNT, WORKER_EMAIL and WORKER_PASSWORD to a user's login."


def main() -> None:
    """Run until somebody has to do something."""
    server = Server(os.environ.get("WORKER_SERVER", "http://127.0.0.1:8000"), _credentials())
    ledger = Ledger(os.environ.get("WORKER_DATABASE", "worker.db"))
    try:
        Follower(server, ledger, say=partial(print, flush=True)).run()
    except Final as error:
        sys.exit(f"worker: {error}")
    except KeyboardInterrupt:
        pass


def _credentials() -> Credentials:
    if key := os.environ.get("WORKER_KEY"):
        return Key(key)
    login = [os.environ.get(f"WORKER_{name}") for name in ("ACCOUNT", "EMAIL", "PASSWORD")]
    if None in login:
        sys.exit(USAGE)
    return Login(*map(str, login))


if __name__ == "__main__":
    main()
