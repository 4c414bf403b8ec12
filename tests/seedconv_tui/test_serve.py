"""The monitor in a browser: what a page gets, what others do not, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.web import page_server
from tests.support.chromium import CHROMIUM, open_page
from tests.support.deadline import DEADLINE, until
from tests.support.made_store import fill, open_writer
from tests.support.tmux import COMMAND, ROOT

NAME = "a b; touch pwned $(touch pwned) '<b>.zarr"  # nothing of which is a command, or a tag
SCREENS = {"1": "journal: all", "2": "expected KL", "3": "Categories", "4": "Tokens", "5": "Seeds"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / NAME
    writer = open_writer(path)
    fill(writer, "m", ["0", "1", "2"], [0, 10])
    writer.close("finished")
    return path


class Served:
    """`seedconv serve`, listening."""

    def __init__(self, *options: str, state: Path) -> None:
        self.process = subprocess.Popen(
            ["env", f"XDG_STATE_HOME={state}", *COMMAND, "serve", "--port", "0", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        port = re.search(r":(\d+) shows", self.said)
        assert port, self.process.communicate()
        self.port = int(port[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def monitors(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def serving(*options: str, state: Path) -> Iterator[Served]:
    served = Served(*options, state=state)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.communicate()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where nothing is remembered, but that there was a tour."""
    (folder := tmp_path_factory.mktemp("state") / "seedconv").mkdir()
    (folder / "toured").touch()
    return folder.parent


@pytest.fixture(scope="module")
def served(store: Path, state: Path) -> Iterator[Served]:
    with serving(str(store), state=state) as made:
        yield made


def has_ended(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@contextlib.asynccontextmanager
async def opened(served: Served, query: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A page, as far as the server can see."""
    address = f"{served.url}/ws{query}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, origin=served.url) as page,
    ):
        yield page


async def over(page: aiohttp.ClientWebSocketResponse) -> None:
    """Reads what the page is sent, to its end."""
    async with asyncio.timeout(DEADLINE):
        while not page.closed:
            await page.receive()


async def seen(page: aiohttp.ClientWebSocketResponse, words: bytes) -> None:
    """Reads what the page is sent, up to some words."""
    received = b""
    async with asyncio.timeout(DEADLINE):
        while words not in received:
            message = await page.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, (message, received)
            received += message.data


async def test_a_page_drives_a_monitor(served: Served) -> None:
    async with opened(served, "?width=90&height=30") as page:
        await seen(page, b"journal: all")
        [monitor] = served.monitors()
        await page.send_json(["stdin", "2"])
        await seen(page, b"expected KL")
        await page.send_json(["resize", {"width": 120, "height": 40}])
        await seen(page, b"\x1b[40;")  # the last row
        await page.send_json(["stdin", "q"])
        await over(page)
    until(lambda: has_ended(monitor))
    async with opened(served) as page:
        await seen(page, b"expected KL")  # it continues where the last one was
        [monitor] = served.monitors()
    until(lambda: has_ended(monitor))  # with its page


async def test_the_page_loads_nothing_from_elsewhere(served: Served, store: Path) -> None:
    async with aiohttp.ClientSession() as session, session.get(served.url) as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert not re.search(r"(https?:)?//\w", text)
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "<b>" not in text  # the store's name is text


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:{port}", "http://localhost:{port}", 101),
        ("10.1.2.3:80", "http://10.1.2.3:80", 101),  # by a tunnel or a proxy
        ("localhost:{port}", "http://localhost:1", 403),  # another program's page
        ("localhost:{port}", "https://elsewhere.example", 403),
        ("localhost:{port}", "null", 403),
        ("localhost:{port}", "", 403),
        ("elsewhere.example", "http://elsewhere.example", 403),  # a name for our address
        ("[::1", "http://[::1", 403),
    ],
)
async def test_no_other_page_drives_it(served: Served, host: str, origin: str, status: int) -> None:
    host, origin = host.format(port=served.port), origin.format(port=served.port)
    async with aiohttp.ClientSession() as session:
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        try:
            async with session.ws_connect(f"{served.url}/ws", headers=headers):
                got = 101
        except aiohttp.WSServerHandshakeError as error:
            got = error.status
        assert got == status


@pytest.mark.parametrize("nonsense", ["no JSON", "{}", '["resize", {"width": "x"}]'])
async def test_nonsense_ends_a_page_and_no_more(served: Served, nonsense: str) -> None:
    async with opened(served) as page:
        await page.send_str(nonsense)
        await over(page)
    async with aiohttp.ClientSession() as session, session.get(served.url) as answer:
        assert answer.status == 200


async def test_the_number_of_pages_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "MOST_PAGES", 0)
    server = page_server.PageServer(["tui"], "title", {"127.0.0.1"})
    runner, port = await page_server.listen(server, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/ws", origin=url)
        assert refused.value.status == 503
    finally:
        await runner.cleanup()


async def test_ctrl_c_ends_it_and_its_monitors(store: Path, state: Path) -> None:
    with serving("--fresh", str(store), state=state) as served:
        async with opened(served) as page:
            await seen(page, b"journal: all")
            [monitor] = served.monitors()
            served.process.send_signal(signal.SIGINT)
            await over(page)
        assert await asyncio.to_thread(served.process.wait) == 130
        assert has_ended(monitor)
        assert served.process.communicate() == ("", "")


async def test_no_monitor_outlives_it(store: Path, state: Path) -> None:
    with serving("--fresh", str(store), state=state) as served:
        async with opened(served) as page:
            await seen(page, b"journal: all")
            [monitor] = served.monitors()
            served.process.kill()
            await asyncio.to_thread(until, lambda: has_ended(monitor))


def test_whoever_can_reach_it_is_warned_of(store: Path, state: Path) -> None:
    with serving("--host", "0.0.0.0", str(store), state=state) as served:
        served.process.send_signal(signal.SIGTERM)
        _, said = served.process.communicate()
        assert served.process.returncode == 143
    assert said.startswith("seedconv: --host 0.0.0.0: there is no password.")
    assert said.count("\n") == 1


def test_what_is_wrong_is_said_in_a_line(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, words in [
            ([str(store), "--port", str(port)], f"--port {port}: in use"),
            ([str(store), "--port", "70000"], "--port 70000: must be at most 65535"),
            ([str(store), "--host", "999.1.1.1"], "--host 999.1.1.1: there is no such host"),
            ([str(store), "--host", "192.0.2.1"], "--host 192.0.2.1: no address of this machine"),
            ([str(tmp_path / "none.zarr")], "none.zarr: "),
            ([str(store), str(store)], "named twice"),
        ]:
            assert run(["serve", *options]) == 2
            said = capsys.readouterr()
            assert said.out == ""
            assert said.err.count("\n") == 1
            assert words in said.err


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_in_chromium(served: Served, store: Path, tmp_path: Path) -> None:
    async with open_page(served.url, tmp_path) as page:
        await page.until("m ")
        pictures = set()
        for key, words in SCREENS.items():
            await page.type(key)  # without a click before
            await page.until(words)
            pictures.add(await page.picture())
        assert len(pictures) == len(SCREENS)
        columns, rows = page.size
        await page.resize(600, 400)
        await page.until(lambda: page.size[0] < columns and page.size[1] < rows)
        await page.until("Quit")
        await page.type("2", "e")
        await page.until("save this view")
        await page.type("c")
        await page.until("to the browser")
        await page.until(lambda: list(tmp_path.glob("*.csv")))
        assert next(tmp_path.glob("*.csv")).read_text().startswith("model,")
        await page.type("Y")
        await page.until("copied")
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        await page.call("Browser.grantPermissions", permissions=permissions)
        await page.type("Y")
        assert "m" in await page.run("navigator.clipboard.readText()")
        assert {re.split("[/:]+", url)[1] for url in page.asked} == {"127.0.0.1"}
        assert not page.logged
        await page.type("q")
        await asyncio.to_thread(until, lambda: not served.monitors())
        assert "ended" in await page.run("document.body.innerText")
