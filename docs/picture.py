"""Write a picture of every screen of the monitor on a store, and figures: `make picture`."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

from seedconv_tui.cli.main import run
from seedconv_tui.monitor.app import SeedconvApp
from seedconv_tui.monitor.data.live import StoreSource
from seedconv_tui.monitor.screens import SCREENS

KEYS = {"Categories": ["c", "s", "s", "space", "down"], "Tokens": ["x"] * 4}
"""What is pressed on a screen before it is saved."""

FIGURES = ("expected_kl", "kl_by_pos", "kl_by_frequency")
"""Figures of the report that are on the pages."""

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # from another host; any fixed font does


async def main(store: Path, folder: Path) -> None:
    """Show `store` at 100 x 28, go through the screens, and save each as SVG in `folder`."""
    app = SeedconvApp(StoreSource(store))
    async with app.run_test(size=(100, 28)) as pilot:
        for number, screen in enumerate(SCREENS, start=1):
            for key in (str(number), *KEYS.get(screen, ())):
                await pilot.press(key)
                while app.reading is not None or app.details.busy:
                    await pilot.pause(0.05)
                await pilot.pause()
            picture = _FONTS.sub("", app.export_screenshot(title="seedconv"))
            (folder / f"{screen.lower()}.svg").write_text(picture, encoding="utf-8")


def figures(store: Path, folder: Path) -> None:
    """Draw the report of `store`, and keep `FIGURES` in `folder`."""
    with tempfile.TemporaryDirectory() as report:
        run(["report", str(store), "-o", report, "--format", "png", "--without", "regression"])
        for name in FIGURES:
            with Image.open(Path(report) / f"{name}.png") as figure:
                figure.thumbnail((1200, 1200))
                small = figure.convert("RGB").quantize(64)
                small.save(folder / f"report-{name}.png", optimize=True)


os.environ["COLORTERM"] = "truecolor"
figures(Path(sys.argv[1]), Path(sys.argv[2]))
asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
