"""`snackbase serve bench.metered:app`: the watched server, which also meters its hub.

What the loop's thread uses between the commit of a change and the last write of its event is added up: the rounds that
route, and the writes to sockets. Nothing else is in it, so little has to be subtracted and little is lost in noise.
"""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from bench.watched import app
from snackbase.hub.delivery import Delivery
from snackbase.hub.hub import Hub

__all__ = ["app"]


class Meter:
    """Seconds of CPU since the last reading."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def metered(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; what it uses is counted once, however deep it stands in another."""

        def run(*given: Any) -> Any:
            self._depth += 1
            began = time.thread_time()
            try:
                return work(*given)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.thread_time() - began

        return run


meter = Meter()
for owner, name in ((Hub, "deliver"), (Hub, "_round"), (Delivery, "_flush_slice")):
    setattr(owner, name, meter.metered(getattr(owner, name)))


@app.route("/bench/meter", auth="none")
async def read(request: Request) -> dict[str, float]:
    found, meter.seconds = meter.seconds, 0.0
    return {"seconds": found}
