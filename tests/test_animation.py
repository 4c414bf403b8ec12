"""The animation of the demo: small, from no other host, and made of its recording."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_animation_is_that_of_the_recording() -> None:
    code = runpy.run_path(str(DOCS / "animation.py"))
    head, *lines = map(json.loads, (DOCS / "demo.cast").read_text("utf-8").splitlines())
    assert (head["version"], head["width"], head["height"]) == (2, code["COLUMNS"], code["ROWS"])
    events = [code["Event"](time, data) for time, _, data in lines]
    assert [each.time for each in events] == sorted(each.time for each in events)
    assert code["animation"](events) == (DOCS / "demo.svg").read_text("utf-8")


def test_it_is_small_and_stands_alone() -> None:
    picture = (DOCS / "demo.svg").read_text("utf-8")
    assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]
    assert "<script" not in picture
    assert "@import" not in picture
    assert sum((DOCS / name).stat().st_size for name in ("demo.svg", "demo.cast")) < 1e6
