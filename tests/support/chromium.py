"""A headless Chromium that tests control by the DevTools protocol, on Debian's `chromium`."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

IS_INSTALLED: Final = shutil.which("chromium") is not None
_TIMEOUT_S = 120.0
_VISIBLE_TEXT = "document.body?.innerText ?? ''"  # there is no body while a page loads
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--window-size=1700,1000",
)


class Chromium:
    """One page of a browser. `folder` is its profile, which has to be empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self._last_id = 0

    def __enter__(self) -> Self:
        command = ["chromium", *_OPTIONS, f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._runner.run(self._connect(self._wait_for_port()))
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._session.close())
        self._runner.close()
        self._process.kill()
        self._process.wait()

    def open(self, url: str) -> None:
        # Another document first: a change of the fragment alone would not load the page again.
        for address in ("about:blank", url):
            self._call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for_text(self, is_complete: Callable[[str], bool]) -> str:
        """Wait until the page's visible text is complete; returns it."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not is_complete(text := str(self.evaluate(_VISIBLE_TEXT))):
            assert time.monotonic() < deadline_s, text
            time.sleep(0.2)
        return text

    def _wait_for_port(self) -> int:
        file = self._folder / "DevToolsActivePort"
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not file.exists() or "\n" not in file.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        return int(file.read_text().splitlines()[0])

    async def _connect(self, port: int) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json") as response:
            targets = await response.json()
        url = next(item["webSocketDebuggerUrl"] for item in targets if item["type"] == "page")
        self._socket = await self._session.ws_connect(url, max_msg_size=0)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._runner.run(self._exchange(method, parameters))

    async def _exchange(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        await self._socket.send_json({"id": self._last_id, "method": method, "params": parameters})
        async for message in self._socket:
            answer = json.loads(message.data)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
        raise AssertionError("Chromium closed the connection.")
