"""A real browser for tests: Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
_STARTING_S = 180
_ANSWER_S = 180


class Page:
    """A page of the browser. errors : what its console said of errors, exceptions, and what was not loaded"""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif said["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(said["params"]["exceptionDetails"])[:500])
            elif said["method"] == "Runtime.consoleAPICalled" and said["params"]["type"] in ("error", "warning"):
                self.errors.append(str(said["params"]["args"])[:500])
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(said["params"]["entry"])[:500])

    async def ask(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, _ANSWER_S)
        assert "error" not in said, (method, said)
        return said["result"]

    async def open(self, address: str) -> None:
        """Load a page, and return when it is there."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), _ANSWER_S)

    async def run(self, script: str) -> Any:
        """Evaluate JavaScript, as a person's click would; promises are awaited."""
        done = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, script: str, timeout_s: float = 30.0) -> Any:
        """Evaluate JavaScript until it gives something true, and return that."""
        end = time.monotonic() + timeout_s
        while not (value := await self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; errors: {self.errors}"
            await asyncio.sleep(0.05)
        return value

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def resize(self, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path, whole: bool = False, clip: dict[str, float] | None = None) -> None:
        """Write a PNG of the page."""
        more = {"clip": {"scale": 1, **clip}} if clip else {}
        shot = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole or bool(clip), **more)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """Start Chromium with an empty page, and end it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--autoplay-policy=no-user-gesture-required",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    address = next(p["webSocketDebuggerUrl"] for p in await answer.json() if p["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await page.ask(f"{domain}.enable")
                    yield page
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()


async def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + _STARTING_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            return int(path.read_text().splitlines()[0])
        await asyncio.sleep(0.05)
    raise AssertionError(f"chromium did not start: exit code {process.poll()}")


def with_browser(work: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a page of its own."""

    async def run() -> None:
        async with browser() as page:
            await work(page)

    asyncio.run(run())
