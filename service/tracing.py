"""OpenTelemetry traces; its packages are imported only if tracing is configured."""

from contextlib import AbstractContextManager, ExitStack
from typing import Any

from starlette.types import ASGIApp

from service.loops.base import TurnContext


class Tracing:
    """Exports spans of requests and of loop turns to an endpoint (OTLP over HTTP)."""

    def __init__(self, endpoint: str, *, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "tandem", "service.version": version})
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tandem")

    def trace_requests(self, app: ASGIApp) -> ASGIApp:
        """Wrap an ASGI application so that every request is a span."""
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        traced: Any = OpenTelemetryMiddleware(
            app, tracer_provider=self._provider, exclude_spans=["receive", "send"]
        )
        return traced  # type: ignore[no-any-return]

    def trace_turns(self, turn_context: TurnContext) -> TurnContext:
        """Wrap a turn context so that every turn of a loop is a span."""

        def turn(loop: str) -> AbstractContextManager[None]:
            stack = ExitStack()
            stack.enter_context(self._tracer.start_as_current_span(f"turn of {loop}"))
            stack.enter_context(turn_context(loop))
            return stack  # type: ignore[return-value]

        return turn

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()
