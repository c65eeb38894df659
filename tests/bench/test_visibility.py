"""The benchmark of permissions works, in a form so small that its figures mean nothing."""

from pathlib import Path

import msgspec
import pytest

from bench import visibility
from bench.visibility import Row, table

pytestmark = pytest.mark.slow


class Kept(msgspec.Struct):
    rows: list[Row]
    problems: list[str]


def test_every_row_is_measured_and_every_event_is_heard(tmp_path: Path) -> None:
    output = tmp_path / "visibility.json"
    visibility.main(["--tiny", "--output", str(output)])

    kept = msgspec.json.decode(output.read_bytes(), type=Kept)
    assert kept.problems == []
    assert {row.target for row in kept.rows} >= set(visibility.TARGETS.values())
    assert [row.note for row in kept.rows if row.what.startswith("PocketBase")] == [
        "2 of 2 events heard",
        "4 of 4 events heard",
    ]


def test_a_missed_target_is_said_in_the_table() -> None:
    rows = [Row(what="a", value=2, unit="ms", target=3), Row(what="b", value=4, unit="ms", target=3)]
    assert ["missed" in line for line in table(rows).splitlines()[2:]] == [False, True]
