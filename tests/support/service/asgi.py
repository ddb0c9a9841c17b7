"""A synchronous httpx transport that calls an ASGI app, including its lifespan."""

import asyncio
import threading
from types import TracebackType
from typing import Self

import httpx
from fastapi import FastAPI


class AsgiTransport(httpx.BaseTransport):
    """Runs `app` on an event loop in a separate thread."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._lifespan = app.router.lifespan_context(app)

    @property
    def thread(self) -> threading.Thread:
        """The thread of the event loop."""
        return self._thread

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._lifespan.__aenter__(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(
            self._lifespan.__aexit__(None, None, None), self._loop
        ).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read its complete response."""
        return asyncio.run_coroutine_threadsafe(self._send(request), self._loop).result()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        forwarded = httpx.Request(
            request.method, request.url, headers=request.headers, content=body
        )
        response = await self._inner.handle_async_request(forwarded)
        content = await response.aread()
        headers = [item for item in response.headers.raw if item[0].lower() != b"content-encoding"]
        return httpx.Response(
            response.status_code, headers=headers, content=content, request=request
        )
