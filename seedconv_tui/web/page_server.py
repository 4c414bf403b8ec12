"""A server of the page, on which each browser drives a monitor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp_jinja2
from aiohttp import WSCloseCode, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from seedconv_tui.web.browser_guard import add_headers, guard

MOST_PAGES: Final = 16
"""As many monitors run at the same time: each is a process."""

_PATIENCE = 5.0  # seconds that a monitor has to end by itself
_LARGEST = 1000  # columns and rows
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{}'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class PageServer(Server):
    """Serve a page that shows the monitor, with nothing in it from any other host."""

    def __init__(self, arguments: Sequence[str], title: str, names: set[str]) -> None:
        """Take the monitor's command line, the page's title, and the names of this machine."""
        super().__init__(
            "seedconv", title=title, templates_path=Path(__file__).parent.resolve() / "page"
        )
        self._arguments, self._names = arguments, names
        self._pages: set[asyncio.Task[Any]] = set()

    async def application(self) -> web.Application:
        """Return what answers requests."""
        app = await self._make_app()
        app.middlewares.append(guard(self._names))
        app.on_response_prepare.append(add_headers)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Print no logo: the command prints the address."""

    async def on_shutdown(self, app: web.Application) -> None:
        """End the monitors that are open."""
        for page in self._pages:
            page.cancel()
        if self._pages:
            await asyncio.wait(self._pages)

    async def handle_index(self, request: web.Request) -> web.Response:
        """Return the page."""
        nonce = secrets.token_urlsafe(16)
        response = aiohttp_jinja2.render_template(
            "monitor.html", request, {"title": self.title, "nonce": nonce}
        )
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce)
        return response

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Run a monitor for as long as its page is open."""
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages are open already.\n")
        page = asyncio.current_task()
        assert page is not None
        self._pages.add(page)
        websocket = web.WebSocketResponse(heartbeat=15, timeout=_PATIENCE / 2)
        monitor = _Monitor(self._arguments, websocket, self)
        try:
            await websocket.prepare(request)
            size = (to_int(request.query.get(name, ""), 0) for name in ("width", "height"))
            await monitor.start(*size)
            await self._process_messages(websocket, monitor)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError):
            await websocket.close(code=WSCloseCode.PROTOCOL_ERROR)  # it is no page of ours
        except asyncio.CancelledError:
            await websocket.close(code=WSCloseCode.GOING_AWAY)
        except ConnectionError:
            pass  # the page was closed
        finally:
            await monitor.stop()
            self._pages.discard(page)
        return websocket


class _Monitor(AppService):
    """A monitor, which leaves with its page, and closes the page when it ends."""

    def __init__(
        self, arguments: Sequence[str], websocket: web.WebSocketResponse, server: PageServer
    ) -> None:
        super().__init__(
            server.command,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=websocket.close,  # type: ignore[arg-type]
            download_manager=server.download_manager,
        )
        self._arguments = arguments

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Start it without a shell, which would take names of stores apart."""
        environment = self._build_environment(_fitting(width, 80), _fitting(height, 24))
        for name in ("LINES", "TMUX"):
            environment.pop(name, None)
        environment["TERM"] = "xterm-256color"  # as the page behaves, whatever this runs in
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # the same packages as here
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-X", "utf8", "-m", "seedconv_tui", *self._arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the server, which ends them all
        )
        self._stdin = self._process.stdin
        return self._process

    async def set_terminal_size(self, width: int, height: int) -> None:
        await super().set_terminal_size(_fitting(width, 80), _fitting(height, 24))

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            with contextlib.suppress(ConnectionError):
                await self.remote_close()

    async def stop(self) -> None:
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await super().stop()
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # `kill` would wait for it, twice
            await self._process.wait()


def _fitting(asked: int, default: int) -> int:
    return min(asked, _LARGEST) if asked > 0 else default


async def listen(server: PageServer, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Begin to serve; return what `cleanup` ends, and the port. Raise OSError or OverflowError."""
    runner = web.AppRunner(await server.application(), access_log=None, shutdown_timeout=_PATIENCE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])


async def any_of(signals: Sequence[int]) -> int:
    """Wait for one of some signals and return it."""
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[int]()
    for number in signals:
        loop.add_signal_handler(number, heard.put_nowait, number)
    return await heard.get()
