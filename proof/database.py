"""The PostgreSQL that the nodes under proof share: a primary and a standby that is told before a write is acknowledged.

It is restarted, killed, and replaced by its standby; no acknowledged write may be missing afterwards.
"""

import time

from tests.support.postgres import Cluster

FOLLOWS_S = 60.0
SETTINGS = {"wal_retrieve_retry_interval": "200ms"}
"""Commits wait for a standby that has lost its primary."""


class Database:
    """Everything here blocks: run it in a thread."""

    def __init__(self) -> None:
        self.primary, self.standby = Cluster(settings=SETTINGS), Cluster(settings=SETTINGS)
        hosts = f"{self.primary.folder},{self.standby.folder}"
        self.url = f"postgresql://postgres@/postgres?host={hosts}&port=5432,5432&target_session_attrs=read-write"

    def open(self) -> None:
        self.primary.start()
        self._follow()

    def close(self) -> None:
        for cluster in (self.primary, self.standby):
            cluster.remove()

    def restart(self) -> None:
        """As an administrator does it: connections are ended, then it is started again."""
        self.primary.restart(mode="fast")

    def kill(self) -> None:
        """All its processes die at once; afterwards it repairs itself from its log."""
        self.primary.kill()
        self.primary.start()

    def promote(self) -> None:
        """The primary dies for good, the standby takes its place and gets a new standby."""
        # A primary waits for its standby with every commit, and this one will have none at first.
        _set(self.standby, "synchronous_standby_names", "")
        self.primary.kill()
        self.standby.sql("SELECT pg_promote()")
        self.primary, self.standby = self.standby, self.primary
        self._follow()

    def _follow(self) -> None:
        """Make the standby anew from the primary, and let commits wait for it."""
        self.standby.clear()
        where = ("-h", str(self.primary.folder), "-U", "postgres", "-D", str(self.standby.data))
        self.primary.program("pg_basebackup", *where, "-R", "-c", "fast")
        self.standby.start()
        _set(self.primary, "synchronous_standby_names", "*")
        ends = time.monotonic() + FOLLOWS_S
        while "sync" not in self.primary.sql("SELECT sync_state FROM pg_stat_replication"):
            if time.monotonic() > ends:
                raise AssertionError(f"the standby does not follow: {self.standby.log}")
            time.sleep(0.05)


def _set(cluster: Cluster, name: str, value: str) -> None:
    cluster.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.sql("SELECT pg_reload_conf()")
