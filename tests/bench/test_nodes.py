"""The benches of several nodes and workers run, in a form so small that their figures mean nothing."""

from pathlib import Path

import msgspec
import pytest

from bench import nodes, workers

pytestmark = pytest.mark.slow


class Kept(msgspec.Struct):
    rows: list[nodes.Row]
    problems: list[str]


def test_every_scene_between_nodes_is_measured_and_every_event_comes_in_order(tmp_path: Path) -> None:
    output = tmp_path / "nodes.json"
    nodes.main(["--tiny", "--output", str(output)])

    kept = msgspec.json.decode(output.read_bytes(), type=Kept)
    assert kept.problems == []
    assert {row.limit for row in kept.rows} == set(nodes.MOST_MS.values())
    assert len({row.what for row in kept.rows}) == 6 + 4 * 4


def test_two_workers_are_measured_beside_one_and_every_event_is_heard(tmp_path: Path) -> None:
    output = tmp_path / "workers.json"
    workers.main(["--tiny", "--output", str(output)])

    kept = msgspec.json.decode(output.read_bytes(), type=workers.Found)
    assert kept.problems == []
    assert len(kept.one) == len(kept.two) == len(kept.spreads) == 1
