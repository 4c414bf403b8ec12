"""The check of the pages' prose finds what it is for, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROSE = Path(__file__).parents[1] / "docs" / "prose.py"


def check(page: str, tmp_path: Path) -> tuple[int, list[str]]:
    """Return the exit code and what is said of a page, without its path."""
    file = tmp_path / "page.md"
    file.write_text(page, encoding="utf-8")
    ended = subprocess.run([sys.executable, PROSE, file], capture_output=True, text=True)
    return ended.returncode, [line.partition("page.md:")[2] for line in ended.stderr.splitlines()]


def words(n: int) -> str:
    return " ".join(["word"] * n)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("It is\ntold at once.", "1: 'is told'"),
        ("# Title\n\nStart anew.", "3: 'anew'"),
        ("| a | b |\n|---|---|\n| x | it tells |", "3: 'tells'"),
        (f"- {words(31)}", "1: a sentence of 31 words"),
        (f"Short. {words(31)}.", "1: a sentence of 31 words"),
        ("# Title\n\n" + "A line.\n" * 91, "1: more than 90 lines"),
    ],
)
def test_what_is_found(page: str, said: str, tmp_path: Path) -> None:
    code, lines = check(page, tmp_path)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(said)


@pytest.mark.parametrize(
    "page",
    [
        "`it is told` is code, and so is\n\n    tells anew\n\n```\nmend\n```\n",
        f"| {words(20)} | {words(20)} |",  # each cell is read by itself
        f"{words(20)}: {words(20)}.",
        f"- {words(20)}\n- {words(20)}",
        "[a link](anew.md) leads where it does",
        "<!-- what nobody reads tells nothing -->",
        "foretells and kinship are other words",
    ],
)
def test_what_is_left_alone(page: str, tmp_path: Path) -> None:
    assert check(page, tmp_path) == (0, [])
