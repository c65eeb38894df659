"""Counters become Prometheus text, each application has its own, and labels are fixed words."""

from prometheus_client.parser import text_string_to_metric_families

from snackbase.metrics import Counters, Histogram, Metrics, add, render_all


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name.removeprefix("snackbase_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_counted_is_published_with_its_labels() -> None:
    metrics = Metrics()
    counters = metrics.counters
    add(counters.connections, ("websocket", "opened"))
    add(counters.deliveries, "sse", 3)
    add(counters.requests, ("GET", "/api/v1/records/{collection}", "200"), 2)
    counters.bytes_sent += 17
    found = samples(metrics)

    assert found[("realtime_connections_opened_total", (("result", "opened"), ("transport", "websocket")))] == 1
    assert found[("realtime_deliveries_total", (("transport", "sse"),))] == 3
    assert found[("realtime_bytes_sent_total", ())] == 17
    labels = (("method", "GET"), ("route", "/api/v1/records/{collection}"), ("status", "200"))
    assert found[("http_requests_total", labels)] == 2


def test_every_counter_is_published() -> None:
    metrics = Metrics()
    for name in Counters.__slots__:
        value = getattr(metrics.counters, name)
        if isinstance(value, dict):
            key = {"connections": ("a", "b"), "requests": ("a", "b", "c")}.get(name, "a")
            add(value, key, 4711)
        elif isinstance(value, Histogram):
            for _ in range(4711):
                value.observe(0.0)
        else:
            setattr(metrics.counters, name, 4711)

    counted = [
        name for (name, labels), value in samples(metrics).items() if value == 4711 and ("le", "+Inf") not in labels
    ]
    assert len({name for name in counted if not name.endswith("_bucket")}) == len(Counters.__slots__)


def test_a_gauge_is_read_when_somebody_asks() -> None:
    metrics, now = Metrics(), {"websocket": 1.0}
    metrics.gauge("realtime_connections", lambda: now, label="transport")
    metrics.gauge("log_head", lambda: 5)
    now["sse"] = 2.0
    found = samples(metrics)

    assert found[("realtime_connections", (("transport", "websocket"),))] == 1
    assert found[("realtime_connections", (("transport", "sse"),))] == 2
    assert found[("log_head", ())] == 5


def test_two_applications_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.counters.bytes_sent = 5

    assert samples(one)[("realtime_bytes_sent_total", ())] == 5
    assert samples(other)[("realtime_bytes_sent_total", ())] == 0


def test_a_histogram_counts_a_value_in_every_bucket_it_does_not_exceed() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)

    assert histogram.buckets() == [("0.1", 2), ("1.0", 3), ("+Inf", 4)]
    assert histogram.total == 7.65


def test_the_numbers_of_several_workers_are_told_once_each_with_the_worker() -> None:
    first, second = Metrics(), Metrics()
    for metrics, count in ((first, 3), (second, 4)):
        add(metrics.counters.deliveries, "websocket", count)
        metrics.counters.loop_lag.observe(0.002)
    text = render_all({"0": first.numbers(), "1": second.numbers(), "2": None}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}

    told = [(one.labels["worker"], one.value) for one in families["snackbase_realtime_deliveries"].samples]
    assert told == [("0", 3), ("1", 4)]
    up = [(one.labels["worker"], one.value) for one in families["snackbase_worker_up"].samples]
    assert up == [("0", 1), ("1", 1), ("2", 0)]
    assert text.count("# TYPE snackbase_event_loop_lag_seconds histogram") == 1
    counts = [one for one in families["snackbase_event_loop_lag_seconds"].samples if one.name.endswith("_count")]
    assert [(one.labels, one.value) for one in counts] == [({"worker": "0"}, 1), ({"worker": "1"}, 1)]
