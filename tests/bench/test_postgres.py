"""The bench of writes into PostgreSQL runs, and what it measures is right; its figures are no matter of tests."""

from bench.postgres import measure
from tests.support.postgres import Cluster


async def test_the_bench_of_postgresql_runs_and_what_it_writes_is_in_order(postgres: Cluster) -> None:
    results = await measure(postgres, seconds=0.1, rounds=1, held_s=0.5)

    assert [row["in_flight"] for row in results["one_account"]] == [1, 16, 64]
    assert results["two_nodes"]["gapless"]
    held = results["held_record"]
    assert (held["answered_before_it_was_free"], held["refused"]) == (0, 0)
    assert held["writes"] > 0 and held["waited_for_the_record"] > 0
