"""No figure of a benchmark stands on a page otherwise than it was measured."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pages(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.pages", *flags]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def copy(folder: Path) -> Path:
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.svg", "*.png"))
    shutil.copy(ROOT / "README.md", folder)
    return folder / "docs" / "benchmarks.md"


def test_pages_agree_with_the_results() -> None:
    found = pages(ROOT, "--check")
    assert not found.returncode, found.stderr


def test_a_figure_written_by_hand_is_found_and_replaced(tmp_path: Path) -> None:
    page = copy(tmp_path)
    as_measured = page.read_text(encoding="utf-8")
    mark = "<!--= memory none.peak_mb_4x ,.0f -->"
    page.write_text(f"{as_measured}\n{mark}1<!--=-->\n", encoding="utf-8")
    found = pages(tmp_path, "--check")
    assert found.returncode == 1
    assert found.stderr.startswith("docs/benchmarks.md: figures differ")
    assert not pages(tmp_path).returncode
    written = page.read_text(encoding="utf-8").removeprefix(as_measured).strip()
    assert written.startswith(mark)
    assert float(written.removeprefix(mark).removesuffix("<!--=-->").replace(",", "")) > 100
    assert not pages(tmp_path, "--check").returncode


def test_a_mark_without_a_result_is_named(tmp_path: Path) -> None:
    page = copy(tmp_path)
    page.write_text("<!--= memory none.peak_mb_9x .0f -->1<!--=-->\n", encoding="utf-8")
    found = pages(tmp_path)
    assert found.returncode == 1
    assert "benchmarks.md: the results have no memory none.peak_mb_9x" in found.stderr
