"""Metrics in Prometheus' form: what is counted here, and what the database knows at a scrape."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.metrics.counters import COUNTER_DESCRIPTIONS
from service.domain.metrics.series import Series

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class PrometheusMetrics:
    """Implements `Meter` and `Watch`; one for each service."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"tandem_{name}", what, registry=self.registry)
            for name, what in COUNTER_DESCRIPTIONS.items()
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
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._turn_s = Histogram(
            "tandem_loop_turn_seconds",
            "Seconds that a turn of a loop took.",
            ["loop"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "tandem_loop_failures",
            "Turns of a loop that did not come to their end.",
            ["loop"],
            registry=self.registry,
        )
        self._lag_s = Gauge(
            "tandem_loop_lag_seconds",
            "Seconds since a loop's last turn that came to its end.",
            ["loop"],
            registry=self.registry,
        )
        self._build = Gauge(
            "tandem_build_info", "1, with the version.", ["version"], registry=self.registry
        )
        self._build.labels(version).set(1)

    def count(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._counters[name].inc(amount)

    def observe_request(self, method: str, endpoint: str, status: int, took_s: float) -> None:
        """A request was answered."""
        self._requests.labels(method, endpoint, str(status)).inc()
        self._request_s.labels(method, endpoint).observe(took_s)

    @contextmanager
    def observe_turn(self, loop: str) -> Iterator[None]:
        """A turn of a loop."""
        began_s = monotonic()
        try:
            yield
        except BaseException:
            self._failures.labels(loop).inc()
            raise
        finally:
            self._turn_s.labels(loop).observe(monotonic() - began_s)
        ended_s = monotonic()
        self._lag_s.labels(loop).set_function(lambda: monotonic() - ended_s)

    def register_series(self, series: Callable[[], list[Series]]) -> None:
        """Have these asked for at every scrape."""
        self.registry.register(_Asking(series))

    def render(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Asking(Collector):
    def __init__(self, series: Callable[[], list[Series]]) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        """The values of this moment."""
        for one in self._series():
            family = GaugeMetricFamily(f"tandem_{one.name}", one.description, labels=one.labels)
            for labels, value in one.values:
                family.add_metric(labels, value)
            yield family

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the database is asked at a scrape, not at the start."""
        return []
