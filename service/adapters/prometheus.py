"""Prometheus metrics: counters of this process, and series that are queried at each scrape."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.metrics.counters import COUNTER_DESCRIPTIONS
from service.domain.metrics.series import Series

_DURATION_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class PrometheusMetrics:
    """Metrics of one service process; implements `Counters`, `OnResponse` and `TurnContext`."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"tandem_{name}", description, registry=self.registry)
            for name, description in COUNTER_DESCRIPTIONS.items()
        }
        self._requests = Counter(
            "tandem_http_requests",
            "Requests by method, endpoint and status.",
            ["method", "endpoint", "status"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "tandem_http_request_seconds",
            "Seconds until a request was answered.",
            ["method", "endpoint"],
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._turn_s = Histogram(
            "tandem_loop_turn_seconds",
            "Seconds that a turn of a loop took.",
            ["loop"],
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._failures = Counter(
            "tandem_loop_failures",
            "Failed turns of a loop.",
            ["loop"],
            registry=self.registry,
        )
        self._lag_s = Gauge(
            "tandem_loop_lag_seconds",
            "Seconds since the last completed turn of a loop.",
            ["loop"],
            registry=self.registry,
        )
        self._build = Gauge(
            "tandem_build_info", "1, with the version.", ["version"], registry=self.registry
        )
        self._build.labels(version).set(1)

    def count(self, name: str, amount: float = 1.0) -> None:
        self._counters[name].inc(amount)

    def observe_request(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        """Count a request and record its duration."""
        self._requests.labels(method, endpoint, str(status)).inc()
        self._request_s.labels(method, endpoint).observe(duration_s)

    @contextmanager
    def observe_turn(self, loop: str) -> Iterator[None]:
        """Record the duration and the outcome of a turn of a loop."""
        started_s = monotonic()
        try:
            yield
        except BaseException:
            self._failures.labels(loop).inc()
            raise
        finally:
            self._turn_s.labels(loop).observe(monotonic() - started_s)
        ended_s = monotonic()
        self._lag_s.labels(loop).set_function(lambda: monotonic() - ended_s)

    def register_series(self, series: Callable[[], list[Series]]) -> None:
        """Register a function that returns series at every scrape."""
        self.registry.register(_SeriesCollector(series))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _SeriesCollector(Collector):
    def __init__(self, series: Callable[[], list[Series]]) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        """Query the series and convert them to Prometheus' types."""
        for item in self._series():
            family = GaugeMetricFamily(f"tandem_{item.name}", item.description, labels=item.labels)
            for labels, value in item.values:
                family.add_metric(labels, value)
            yield family

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not query the database."""
        return []
