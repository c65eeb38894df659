"""Nodes are restarted one after the other behind nginx, with the settings that the documentation recommends."""

from pathlib import Path
from types import ModuleType

import pytest

from bench.rolling import measure

CLIENTS = 60


@pytest.mark.slow
async def test_a_rolling_restart_under_load_loses_nothing_and_fails_no_request(
    postgres_url: str, tmp_path: Path, nginx: ModuleType
) -> None:
    """`python -m bench.rolling` does the same with 300 clients."""
    found = await measure(tmp_path, postgres_url, clients=CLIENTS, rate=15)

    assert found.sound, found
    assert found.restarts == 3
    # Each was at one of the three; who was moved again before it had caught up does not count.
    assert found.returns >= CLIENTS // 2
    assert found.deliveries == found.events * CLIENTS > 0
