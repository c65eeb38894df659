"""The transactions that wait for the writer: bounded in number and bytes, fair between accounts.

`put` is called on the event loop, `wait` and `take` on the writer thread. A full queue refuses at once with Unavailable
(code `overloaded`) instead of slowing everybody down. Groups are filled round robin, with one transaction of each
waiting account in turn, so an account with thousands waiting does not delay the others.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from snackbase.errors import Unavailable


class Sized(Protocol):
    """What waits: it knows its bytes."""

    size: int


T = TypeVar("T", bound=Sized)


class Waiting(Generic[T]):
    """The queue. Jobs (schema changes) run one by one before the next group."""

    def __init__(self, *, length: int, size: int, account_length: int) -> None:
        self._most = length
        self._most_size = size
        self._most_of_account = account_length
        self._accounts: OrderedDict[str, deque[T]] = OrderedDict()
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        # Released to wake the writer. A Condition does the same with a new lock for each sleep: 10 us of a create.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._sleeping = False
        self._closed = False
        self.length = 0
        self.size = 0
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something new, for a writer that does not sleep in `wait`."""

    def put(self, account_id: str, item: T, *, wake: bool = True) -> None:
        """Add a transaction.

        Args:
            wake: False: the caller rouses the writer in a moment (`rouse`).

        Raises:
            Unavailable: code `overloaded`: one of the limits is reached; `stopping`: the store is closed.
        """
        with self._lock:
            self._refuse_closed()
            queue = self._accounts.get(account_id)
            full = self.length >= self._most or self.size + item.size > self._most_size
            if full or (queue is not None and len(queue) >= self._most_of_account):
                raise Unavailable("Too many writes are waiting.", code="overloaded", retry_after_s=1)
            if queue is None:
                queue = self._accounts[account_id] = deque()
            queue.append(item)
            self.length += 1
            self.size += item.size
            if wake:
                self._wake()

    def rouse(self) -> None:
        """Wake a writer that sleeps."""
        with self._lock:
            self._wake()

    def put_job(self, job: Callable[[], None]) -> None:
        """Add something that runs by itself between groups. Raises Unavailable (`stopping`) when closed."""
        with self._lock:
            self._refuse_closed()
            self._jobs.append(job)
            self._wake()

    def close(self) -> None:
        """Take nothing more; what waits is still given out."""
        with self._lock:
            self._closed = True
            self._wake()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unavailable("The server is stopping.", code="stopping", retry_after_s=1)

    def _wake(self) -> None:
        self.wake()
        if self._sleeping:
            self._sleeping = False
            self._bell.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until there is something to do. False: nothing came in time."""
        rung = True
        while rung:
            with self._lock:
                if self._something:
                    return True
                self._sleeping = True
            rung = self._bell.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))
        with self._lock:
            if not self._sleeping:
                # It was rung after the time was over; the next sleep must not end by that.
                self._bell.acquire()
            self._sleeping = False
            return self._something

    @property
    def _something(self) -> bool:
        return bool(self.length or self._jobs or self._closed)

    @property
    def finished(self) -> bool:
        """Closed and given out."""
        if not self._closed:
            return False
        with self._lock:
            return not self.length and not self._jobs

    def take_job(self) -> Callable[[], None] | None:
        with self._lock:
            return self._jobs.popleft() if self._jobs else None

    def take(self, *, most: int, size: int) -> list[T]:
        """The next group: at most `most`, and no further one once `size` bytes are reached."""
        taken: list[T] = []
        with self._lock:
            room = size
            while self._accounts and len(taken) < most and room > 0:
                account_id, queue = self._accounts.popitem(last=False)
                item = queue.popleft()
                if queue:
                    self._accounts[account_id] = queue
                taken.append(item)
                room -= item.size
                self.size -= item.size
            self.length -= len(taken)
        return taken
