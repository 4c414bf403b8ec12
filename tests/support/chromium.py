"""A page in headless Chromium: what it loads, what it is sent, what it looks like."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pyte

from tests.support.deadline import DEADLINE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
_KEYS = {"Escape": 27, "Enter": 13, "ArrowRight": 39, "ArrowDown": 40}
POLL = 0.05  # seconds between two looks


class Page:
    """A page, driven by Chromium's own protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.asked: list[str] = []  # addresses that were to be loaded
        self.logged: list[str] = []  # errors in its console
        self.size = (0, 0)  # columns and rows, as it has said
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Does something, and gives the answer."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait({answer, self._reading}, timeout=DEADLINE, return_when=first)
        return answer.result()

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                assert "error" not in told, told
                self._answers.pop(told["id"]).set_result(told["result"])
                continue
            given = told["params"]
            match told["method"]:
                case "Network.requestWillBeSent":
                    self.asked.append(given["request"]["url"])
                case "Network.webSocketCreated":
                    self.asked.append(given["url"])
                case "Log.entryAdded" if given["entry"]["level"] == "error":
                    self.logged.append(given["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.logged.append(given["exceptionDetails"]["exception"]["description"])
                case "Network.webSocketFrameReceived" if given["response"]["opcode"] == 2:
                    self._stream.feed(base64.b64decode(given["response"]["payloadData"]))
                case "Network.webSocketFrameSent":
                    kind, *values = json.loads(given["response"]["payloadData"])
                    if kind == "resize":
                        self.size = values[0]["width"], values[0]["height"]
                        self._screen.resize(self.size[1], self.size[0])

    async def open(self, url: str) -> None:
        """Goes to an address."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        await self.call("Page.navigate", url=url)

    async def type(self, *keys: str) -> None:
        """Presses keys."""
        for key in keys:
            text = {} if key in _KEYS else {"text": key}
            code = _KEYS.get(key, ord(key[0].upper()))
            for kind in ("keyDown", "keyUp"):
                extra = text if kind == "keyDown" else {}
                await self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    windowsVirtualKeyCode=code,
                    **extra,
                )

    async def resize(self, width: int, height: int) -> None:
        """Gives the window another size, pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def picture(self) -> bytes:
        """What is seen, as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    async def run(self, script: str) -> Any:
        """What a line of JavaScript comes to in the page."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def text(self) -> str:
        """What the monitor has drawn."""
        return "\n".join(self._screen.display)

    async def until(self, true: str | Callable[[], object]) -> None:
        """Waits for some words, or for what must come to be."""
        async with asyncio.timeout(DEADLINE):
            while not (true in self.text if isinstance(true, str) else true()):
                assert not self._reading.done(), self._reading.exception()
                await asyncio.sleep(POLL)


@contextlib.asynccontextmanager
async def open_page(url: str, folder: Path) -> AsyncIterator[Page]:
    """An address in a browser of its own, whose downloads lie in `folder`."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    browser = subprocess.Popen(
        [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port = profile / "DevToolsActivePort"
        async with asyncio.timeout(DEADLINE):
            while not (port.exists() and port.read_text()):
                assert browser.poll() is None
                await asyncio.sleep(POLL)
        place = f"http://127.0.0.1:{port.read_text().split()[0]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{place}/json/list") as answer:
                target = next(one for one in await answer.json() if one["type"] == "page")
            address = target["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                await page.resize(1000, 560)
                await page.call(
                    "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder)
                )
                await page.open(url)
                yield page
    finally:
        browser.terminate()
        browser.wait()
