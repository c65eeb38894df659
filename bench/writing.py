"""Writers behind a proxy: single creates, changes and deletes, and reads in between; what was not served is repeated.

Each write has an Idempotency-Key, so one that is repeated is done once, whatever became of the first try.
"""

import http.client
import json
import random
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.servers import COLLECTION

PATH = f"/api/v1/records/{COLLECTION}"
WRITERS = 6
AGAIN_S = 0.2
KEPT = 30
"""Records of one writer."""


class Writing:
    """Runs from the beginning; `stop` ends it when what is under way is answered.

    Args:
        rate: writes a second of all together; each is followed by a read.

    Attributes:
        acknowledged: writes. answers: by method and status. unanswered: requests without one. repeated: requests that
        were sent again. replayed: those of them that had been carried out before. strange: the first answers that
        nobody expected.
    """

    def __init__(self, port: int, tokens: Sequence[str], rate: float) -> None:
        self.acknowledged = self.unanswered = self.repeated = self.replayed = 0
        self.answers: Counter[str] = Counter()
        self.strange: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(port, tokens[number % len(tokens)], WRITERS / rate, number))
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, port: int, token: str, pause_s: float, number: int) -> None:
        chance, mine = random.Random(number), list[str]()
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        count = 0
        while not self._over.is_set():
            count += 1
            body = {"seqno": count, "writer": number}
            kind = chance.random()
            if kind < 0.3 and mine:
                self._send(line, "PATCH", f"{PATH}/{chance.choice(mine)}", headers, body)
            elif len(mine) > KEPT or (kind < 0.45 and mine):
                self._send(line, "DELETE", f"{PATH}/{mine.pop(chance.randrange(len(mine)))}", headers, None)
            else:
                mine.append(str(uuid.uuid4()))
                self._send(line, "POST", PATH, headers, {"id": mine[-1], **body})
            self._send(line, "GET", f"{PATH}/{mine[-1]}" if mine else f"{PATH}?limit=5", headers, None)
            time.sleep(pause_s * chance.expovariate(1.0))
        line.close()

    def _send(
        self, line: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: Any
    ) -> None:
        """Until it is answered with anything but 503."""
        more = {} if method == "GET" else {"Idempotency-Key": secrets.token_hex(8)}
        text = None if body is None else json.dumps(body)
        while True:
            try:
                line.request(method, path, body=text, headers={**headers, **more})
                answer = line.getresponse()
                told = answer.read()
            except (OSError, http.client.HTTPException) as error:
                line.close()
                self._count(f"{method} {type(error).__name__}", again=True)
                time.sleep(AGAIN_S)
                continue
            again = answer.status == 503
            replayed = answer.headers.get("Idempotency-Replayed") is not None
            done = method != "GET" and answer.status < 300
            strange = "" if answer.status < 300 or again else f"{method} {answer.status} {told[:200]!r}"
            self._count(f"{method} {answer.status}", again=again, done=done, replayed=replayed, strange=strange)
            if not again:
                return
            time.sleep(AGAIN_S)

    def _count(self, what: str, *, again: bool, done: bool = False, replayed: bool = False, strange: str = "") -> None:
        with self._lock:
            self.answers[what] += 1
            self.unanswered += not what[-1].isdigit()
            self.repeated += again
            self.acknowledged += done
            self.replayed += replayed
            if strange and len(self.strange) < 5:
                self.strange.append(strange)
