"""A port that forwards to a server and that tests can close."""

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

_CHUNK_BYTES = 65_536
_TIMEOUT_S = 60


class PortGate:
    """Forwards connections to another local port while it is open; else they are refused."""

    def __init__(self, *, port: int, upstream_port: int) -> None:
        self._port = port
        self._upstream_port = upstream_port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    def open(self) -> None:
        """Accept connections, until `close`."""
        is_open = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(is_open)))
        self._thread.daemon = True
        self._thread.start()
        assert is_open.wait(_TIMEOUT_S)

    def close(self) -> None:
        """End all connections and refuse new ones; nothing if the gate is closed."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
            self._thread = None

    async def _serve(self, is_open: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        is_open.set()
        await self._closing.wait()
        server.close()
        # `asyncio.run` would miss a connection that is accepted while it cancels the others, and
        # what is left of that would be collected, with its warnings, in some later test.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    async def _forward(self, reader: StreamReader, writer: StreamWriter) -> None:
        transports = [writer.transport]
        try:
            # Both ends see what happened: their connections are aborted.
            with suppress(ConnectionError, asyncio.CancelledError):
                upstream_reader, upstream_writer = await asyncio.open_connection(
                    "127.0.0.1", self._upstream_port
                )
                transports.append(upstream_writer.transport)
                await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))
        finally:
            for transport in transports:
                transport.abort()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
