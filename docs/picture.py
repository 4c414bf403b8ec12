"""Writes the README's picture: the Curves screen on a store. `make picture`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from seedconv_tui.app import SeedconvApp
from seedconv_tui.live import StoreSource


async def main(store: Path, picture: Path) -> None:
    """Show `store` at 100 x 28, go to Curves, and save what is on the screen as SVG."""
    app = SeedconvApp(StoreSource(store))
    async with app.run_test(size=(100, 28)) as pilot:
        while app.reading is not None:
            await pilot.pause(0.05)
        await pilot.press("2")
        await pilot.pause()
        picture.write_text(app.export_screenshot(title="seedconv"), encoding="utf-8")


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
