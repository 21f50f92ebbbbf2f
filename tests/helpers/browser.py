"""A real browser for tests: headless Chromium, driven through its DevTools protocol. Nothing here needs a network.

Debian's package `chromium` is enough. aiohttp, which torch-geometric needs as well, speaks to it.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

START = 60.0
"""Seconds within which the browser must have started; with two busy cores it takes five."""

Result = TypeVar("Result")


def find_chromium() -> str | None:
    """Path of the browser; None where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page in the browser.

    Attributes:
        problems: console messages of kind error or warning, exceptions that nothing caught, and policies violated.
        requests: everything the page asked for, by URL.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol."""
        self._count += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._count] = answer
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, START)

    async def open(self, path: Path) -> None:
        """Open a file, as somebody does who clicks on it."""
        await self.call("Page.navigate", url=path.resolve().as_uri())
        await self.until("document.readyState === 'complete'")

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = START) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not await self.run(f"!!({expression})"):
            assert time.monotonic() < end, f"never true: {expression}; {self.problems}"
            await asyncio.sleep(0.05)

    async def picture(self) -> bytes:
        """A PNG of what is seen."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])

    async def listen(self) -> None:
        """Take in what the browser says, until it is closed."""
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" in content:
                waiting = self._waiting.pop(content["id"])
                if not waiting.done():
                    waiting.set_result(content.get("result", {"error": content.get("error")}))
            else:
                self._event(content["method"], content["params"])

    def _event(self, method: str, found: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = found["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(one.get("value", one)) for one in found["args"]))
        elif method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
            self.problems.append(found["entry"]["text"])


@contextlib.asynccontextmanager
async def opened_browser(
    width: int = 1280, height: int = 900, *, dark: bool = False, phone: bool = False
) -> AsyncIterator[Page]:
    """A browser with an empty page of a size in CSS pixels."""
    chromium = find_chromium()
    assert chromium is not None
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        command = [
            *(chromium, "--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
            *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            f"--window-size={width},{height}",
            "about:blank",
        ]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(folder) / "DevToolsActivePort", browser)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [one for one in await answer.json() if one["type"] == "page"]
                address = pages[0]["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    for domain in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{domain}.enable")
                    await page.call(
                        "Emulation.setDeviceMetricsOverride",
                        width=width,
                        height=height,
                        deviceScaleFactor=1,
                        mobile=phone,
                    )
                    media = {
                        "prefers-color-scheme": "dark" if dark else "light",
                        "prefers-reduced-motion": "reduce",  # what turns by itself keeps a processor busy
                    }
                    await page.call(
                        "Emulation.setEmulatedMedia",
                        features=[{"name": name, "value": value} for name, value in media.items()],
                    )
                    yield page
                    listening.cancel()
        finally:
            browser.terminate()
            browser.wait(timeout=30)


async def _port(file: Path, browser: "subprocess.Popen[bytes]") -> int:
    """The port on which the browser listens, once it has said so."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert browser.poll() is None, "the browser ended at once"
        if file.is_file() and (lines := file.read_text().split()):
            return int(lines[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not start")


def in_browser(use: Callable[[Page], Awaitable[Result]], **settings: Any) -> Result:
    """What `use` returns of a page in a browser of its own; `settings` as of `opened_browser`."""

    async def run() -> Result:
        async with opened_browser(**settings) as page:
            return await use(page)

    return asyncio.run(run())
