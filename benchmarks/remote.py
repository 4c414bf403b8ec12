"""What the monitor asks of an object store: `python -m benchmarks.remote`.

The big study of `benchmarks.tui_store` (5 models x 154 steps x 10 seeds x 5,000 tokens, finished),
behind a local server that speaks S3 and counts. Prints as JSON how many requests it takes to show
Runs, Tokens after that, and how many a poll takes while nothing changes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.run import machine
from benchmarks.tui_store import made
from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.data.live import StoreSource
from seedconv_tui.monitor.screens import SCREENS
from tests.support.s3_server import BUCKET, S3Server

POLLS = 20
PREFIX = "study.zarr"


class Folder(Mapping[str, bytes]):
    """Files below a folder as objects; only the few outside of `models` are listed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self._root / key.removeprefix(f"{PREFIX}/")).read_bytes()
        except OSError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        for folder in ("commits", "status", "journal"):
            for file in (self._root / folder).iterdir():
                yield f"{PREFIX}/{file.relative_to(self._root).as_posix()}"

    def __len__(self) -> int:
        return sum(1 for _ in self)


def kind(method: str, key: str) -> str:
    """What a request is for, such as "GET models/*/kl"."""
    parts = key.removeprefix(f"{PREFIX}/").split("/c/")[0].split("/")
    if parts[0] == "models" and len(parts) > 2:
        parts[1] = "*"
    return f"{method} {'/'.join(parts)}"


async def settled(app: SeedconvApp) -> None:
    """Wait until every request is answered."""
    while app.feed.snapshot is None or app.reading is not None or app.details.busy:
        await asyncio.sleep(0.05)


async def measure(server: S3Server) -> dict[str, object]:
    """Open the monitor, let it poll, and go to Tokens."""
    found: dict[str, object] = {}

    def count(name: str) -> None:
        asked = [kind(method, key) for method, key, _ in server.asked]
        twice = Counter(key for method, key, _ in server.asked)
        found[name] = {
            "requests": len(asked),
            "bytes": sum(n_bytes for _, _, n_bytes in server.asked),
            "twice": sum(n - 1 for n in twice.values()),
            "by_kind": dict(Counter(asked).most_common()),
        }
        server.asked.clear()

    app = SeedconvApp(StoreSource(f"s3://{BUCKET}/{PREFIX}"), poll_seconds=86_400)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(app)
        count("runs")
        for _ in range(POLLS):
            app.poll()
            await settled(app)
        count("polls")
        await pilot.press(str(SCREENS.index("Tokens") + 1))
        for _ in range(10):  # each answer may ask for more
            await pilot.pause()
            await settled(app)
        count("tokens")
    return found


def main() -> None:
    """Make the study if it is not there, serve it and print what was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder for the study, kept and used again")
    with contextlib.ExitStack() as stack:
        folder = parser.parse_args().dir
        store = made(folder or Path(stack.enter_context(tempfile.TemporaryDirectory())))
        print(json.dumps({"remote": serve(store), "machine": machine("cpu")}, indent=2))


def serve(store: Path) -> dict[str, object]:
    """Return what is asked of a server that has this store."""
    server = S3Server(Folder(store))  # type: ignore[arg-type]
    os.environ |= {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ALLOW_HTTP": "true",
    }
    found = asyncio.run(measure(server))
    server.close()
    return found


if __name__ == "__main__":
    main()
