"""Numbers for /metrics: plain counters that the hot path increments, turned into Prometheus text when asked.

Owns its registry, so two applications in one process do not mix. No label holds an account, a user, a record or
anything else that a client chooses: label values come from fixed words. Never blocks, knows nobody.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

K = TypeVar("K")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


def add(counts: dict[K, int], key: K, n: int = 1) -> None:
    """Count `n` more of `key`."""
    counts[key] = counts.get(key, 0) + n


class Histogram:
    """Counts of observations per bucket; `observe` costs a bisection and three additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        rows: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows


class Counters:
    """What has happened since the start of this process. Attributes are incremented directly, on the event loop.

    Attributes:
        connections: (transport, result) -> attempts; result: opened | the error's code.
        closes: close word (errors.CLOSINGS, `client`, `lost`) -> connections that ended so.
        events: operation -> committed changes that reached the hub.
        deliveries: transport -> events handed to a link.
        bytes_sent: bytes handed to links. messages_received: messages from clients.
        resyncs: reason -> resync messages. resumes: result (complete, resync, ...) -> subscribes with a position.
        replay_rows: log rows read for those who resume or poll; they share what was read.
        judgements: events judged for a view, once for all who share it. encodings: encodings of events, one a group;
            deliveries / encodings is what sharing saves.
        errors: code -> errors told to clients, over REST and realtime.
        auth_failures: code -> refused tokens and logins.
        requests: (method, route, status) -> answered requests.
        hints: what became of the bus's hints (bus/nats_.py) -> how many. log_rows_read: rows of the change log read
            because no announcement had brought them.
        event_lag: seconds from a change's own time, which its writer's clock gave it, to its being handed on here.
        hook_calls, hook_failures, hook_timeouts: event -> calls. hooks_dropped: after-hooks that were not run at all.
    """

    __slots__ = (
        "auth_failures",
        "bytes_sent",
        "closes",
        "connections",
        "deliveries",
        "encodings",
        "errors",
        "event_lag",
        "events",
        "hints",
        "hook_calls",
        "hook_failures",
        "hook_timeouts",
        "hooks_dropped",
        "judgements",
        "log_rows_read",
        "loop_lag",
        "messages_received",
        "replay_rows",
        "request_seconds",
        "requests",
        "resumes",
        "resyncs",
    )

    def __init__(self) -> None:
        self.connections: dict[tuple[str, str], int] = {}
        self.closes: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self.deliveries: dict[str, int] = {}
        self.bytes_sent = 0
        self.messages_received = 0
        self.judgements = 0
        self.encodings = 0
        self.resyncs: dict[str, int] = {}
        self.resumes: dict[str, int] = {}
        self.replay_rows = 0
        self.errors: dict[str, int] = {}
        self.auth_failures: dict[str, int] = {}
        self.requests: dict[tuple[str, str, str], int] = {}
        self.request_seconds = Histogram(REQUEST_BUCKETS_S)
        self.hints: dict[str, int] = {}
        self.log_rows_read = 0
        self.hook_calls: dict[str, int] = {}
        self.hook_failures: dict[str, int] = {}
        self.hook_timeouts: dict[str, int] = {}
        self.hooks_dropped = 0
        self.loop_lag = Histogram(LAG_BUCKETS_S)
        self.event_lag = Histogram(REQUEST_BUCKETS_S)


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric as processes tell it each other. `samples`: (name, labels, value)."""

    name: str
    help: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


WORKER = "worker"
"""The label that tells the workers of one server apart."""

Gauge = Callable[[], float | Mapping[str, float]]
"""Reads a number, or numbers by the value of the one label the gauge was registered with."""


class Metrics:
    """The registry of one application: its counters, and gauges read when somebody asks."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._gauges: dict[str, tuple[str, str, Gauge]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace="snackbase", registry=self._registry)

    def gauge(self, name: str, read: Gauge, *, help: str = "", label: str = "") -> None:
        """Publish `snackbase_<name>`. `label` names the key of the mapping that `read` returns."""
        self._gauges[name] = (help or name.replace("_", " "), label, read)

    def render(self) -> bytes:
        """The text of /metrics (Prometheus exposition format 0.0.4)."""
        return generate_latest(self._registry)

    def numbers(self) -> bytes:
        """Everything that /metrics shows, for another process's `render_all`."""
        families = [
            Family(one.name, one.documentation, one.type, [(row.name, row.labels, row.value) for row in one.samples])
            for one in self._registry.collect()
        ]
        return msgspec.msgpack.encode(families)

    def describe(self) -> list[Metric]:
        """Nothing up front: keeps the registry from calling `collect` when this object is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by the registry while it renders."""
        c = self.counters
        yield _counter("realtime_connections_opened", "Attempts to connect.", c.connections, ("transport", "result"))
        yield _counter("realtime_closes", "Connections ended, by the word of the close.", c.closes, ("code",))
        yield _counter("realtime_events", "Committed changes that reached the hub.", c.events, ("operation",))
        yield _counter("realtime_deliveries", "Events handed to connections.", c.deliveries, ("transport",))
        yield _counter("realtime_judgements", "Events judged, once a group.", {(): c.judgements}, ())
        yield _counter("realtime_encodings", "Encodings of events, one a group.", {(): c.encodings}, ())
        yield _counter("realtime_bytes_sent", "Bytes handed to connections.", {(): c.bytes_sent}, ())
        yield _counter("realtime_messages_received", "Messages from clients.", {(): c.messages_received}, ())
        yield _counter("realtime_resyncs", "Resync messages.", c.resyncs, ("reason",))
        yield _counter("realtime_resumes", "Subscribes with a position.", c.resumes, ("result",))
        yield _counter("bus_hints", "Hints to and from other nodes, by what became of them.", c.hints, ("result",))
        yield _counter("log_rows_read", "Log rows that no announcement had brought.", {(): c.log_rows_read}, ())
        yield _counter("realtime_replay_rows", "Log rows read for replays and polls.", {(): c.replay_rows}, ())
        yield _counter("errors", "Errors told to clients.", c.errors, ("code",))
        yield _counter("auth_failures", "Refused tokens and logins.", c.auth_failures, ("reason",))
        yield _counter("http_requests", "Answered requests.", c.requests, ("method", "route", "status"))
        yield _counter("hook_calls", "Calls of hooks.", c.hook_calls, ("event",))
        yield _counter("hook_failures", "Hooks that raised or were cut.", c.hook_failures, ("event",))
        yield _counter("hook_timeouts", "Hooks that were cut.", c.hook_timeouts, ("event",))
        yield _counter("hooks_dropped", "Runs of after-hooks left out, too many waiting.", {(): c.hooks_dropped}, ())
        yield _histogram("http_request_duration_seconds", "Time to answer a request.", c.request_seconds)
        yield _histogram("event_loop_lag_seconds", "How late the event loop is.", c.loop_lag)
        yield _histogram("realtime_event_lag_seconds", "From the time of a change to its delivery here.", c.event_lag)
        for name, (text, label, read) in self._gauges.items():
            yield _gauge(name, text, label, read())


class _Told:
    """What was collected elsewhere, as a registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def render_all(told: Mapping[str, bytes | None]) -> bytes:
    """The text of /metrics for several processes: every number with the worker it is of.

    Args:
        told: worker -> what its `numbers` gave; None = it did not answer.
    """
    up = GaugeMetricFamily("snackbase_worker_up", "1 for each worker that told its numbers.", labels=[WORKER])
    merged: dict[str, Metric] = {up.name: up}
    for worker, numbers in told.items():
        up.add_metric([worker], int(numbers is not None))
        for family in msgspec.msgpack.decode(numbers, type=list[Family]) if numbers is not None else ():
            metric = merged.get(family.name)
            if metric is None:
                metric = merged[family.name] = Metric(family.name, family.help, family.type)
            for name, labels, value in family.samples:
                metric.add_sample(name, {WORKER: worker, **labels}, value)
    return generate_latest(_Told(merged.values()))


def _counter(name: str, text: str, counts: Mapping[K, int], labels: tuple[str, ...]) -> Metric:
    family = CounterMetricFamily(f"snackbase_{name}", text, labels=labels)
    for key, count in tuple(counts.items()):
        family.add_metric([str(part) for part in key] if isinstance(key, tuple) else [str(key)], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(f"snackbase_{name}", text, histogram.buckets(), histogram.total)


def _gauge(name: str, text: str, label: str, value: float | Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"snackbase_{name}", text, labels=[label] if label else [])
    if isinstance(value, Mapping):
        for key, number in value.items():
            family.add_metric([key], number)
    else:
        family.add_metric([], value)
    return family
