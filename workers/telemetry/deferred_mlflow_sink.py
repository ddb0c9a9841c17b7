"""The MLflow sink of a process whose first training step should not wait for mlflow's import."""

import threading
from collections.abc import Callable, Sequence

from configs.protocol.records import Record
from workers.telemetry.mlflow_connection import configure_mlflow_client
from workers.telemetry.shipper import Sink


class DeferredMlflowSink:
    """Implements `Sink` with `MlflowSink`, which the thread that delivers first imports.

    Until `begin` is called it waits, at most `max_delay_s`: the import needs a second of the
    interpreter's time, for which the job's own start competes.
    """

    name = "MLflow"
    pause_s = 0.0
    max_delay_s = 10.0

    def __init__(self, url: str, build: Callable[[], Sink[Sequence[Record]]]) -> None:
        """`build` imports mlflow, whose environment for `url` is set before."""
        configure_mlflow_client(url)
        self._build = build
        self._may_begin = threading.Event()
        self._sink: Sink[Sequence[Record]] | None = None

    def begin(self) -> None:
        """End the wait: the job has begun its work, or somebody waits for the delivery."""
        self._may_begin.set()

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        if self._sink is None:
            self._may_begin.wait(self.max_delay_s)
            self._sink = self._build()
        return self._sink.deliver(first, records)
