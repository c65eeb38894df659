"""The benchmarks of kills, storms and stalls work, in a form so small that their figures mean nothing."""

from pathlib import Path

import msgspec
import pytest

from bench import kills, resumers, stalled
from bench.aftermath import Aftermath, Heard, Place, aftermath, table
from bench.servers import PocketBaseServer

STORED = [(1, 1), (2, 1), (1, 2), (2, 2)]


def after(stored: list[Place], *heard: list[Place], resyncs: int = 0) -> Aftermath:
    """Two kills, and everything but the last of `STORED` acknowledged."""
    acknowledged = {place: number // 2 for number, place in enumerate(STORED[:-1])}
    return aftermath("X", 2, acknowledged, 1, stored, [Heard(list(places), resyncs) for places in heard])


def test_nothing_is_wrong_when_all_books_agree() -> None:
    found = after(STORED, STORED, STORED)

    assert not found.broken
    assert (found.acknowledged, found.stored, found.missed, found.unheard) == (3, 4, 0, 0)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (after(STORED[1:], STORED[1:]), {"lost": 1}),
        (after(STORED, STORED, STORED[1:]), {"missed": 1, "kills_missed": 1}),
        (after(STORED, STORED[1:], STORED[1:]), {"missed": 2, "unheard": 1, "kills_missed": 1, "kills_unheard": 1}),
        (after(STORED, [*STORED, (1, 2)]), {"repeated": 1}),
        (after(STORED, [(1, 2), (1, 1), (2, 1), (2, 2)]), {"swapped": 1}),
        (after(STORED, [*STORED, (2, 3)]), {"phantoms": 1}),
        (after(STORED, STORED, resyncs=1), {"resyncs": 1}),
    ],
)
def test_what_is_lost_missed_doubled_swapped_or_invented_is_counted(found: Aftermath, wrong: dict[str, int]) -> None:
    names = ("lost", "missed", "unheard", "kills_missed", "kills_unheard", "repeated", "swapped", "phantoms", "resyncs")

    assert {name: getattr(found, name) for name in names if getattr(found, name)} == wrong
    assert found.broken


def test_the_table_has_a_column_for_each_server() -> None:
    assert "| acknowledged, but heard by no listener | 0 | 1 |" in table(
        [after(STORED, STORED), after(STORED, STORED[1:])]
    )


@pytest.mark.slow
def test_killed_servers_are_compared_and_snackbase_loses_nothing(tmp_path: Path) -> None:
    output = tmp_path / "kills.json"
    only = [] if PocketBaseServer.program() else ["--only", "snackbase"]

    assert kills.main(["--kills", "2", "--output", str(output), *only]) == 0

    for one in msgspec.json.decode(output.read_bytes())["servers"]:
        assert one["acknowledged"] > 0
        assert one["lost"] == 0


@pytest.mark.slow
def test_a_storm_of_those_who_resume_is_measured_and_all_get_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert resumers.main(["--clients", "20", "--back", "100", "--shape", "connecting", "spread"]) == 0

    rows = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| log rows read"))
    assert all(0 < int(cell) <= 300 for cell in rows.split("|")[2:4])


@pytest.mark.slow
def test_stalled_readers_are_measured_told_and_get_everything_later(capsys: pytest.CaptureFixture[str]) -> None:
    assert stalled.main(["--pairs", "1", "--events", "1500"]) == 0

    assert "| ends with 4003 by the metric, by the hook | 5, 5 |" in capsys.readouterr().out
