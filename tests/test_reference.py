"""The pages of reference say what the code says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def reference(docs: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(docs / "reference.py"), *flags]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def test_pages_agree_with_the_code() -> None:
    found = reference(ROOT / "docs", "--check")
    assert not found.returncode, found.stderr


def test_a_stale_page_is_named_and_renewed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.svg"))
    page = tmp_path / "docs/reference-study-file.md"
    as_written = page.read_text(encoding="utf-8")
    assert "| `window` | whole number, at least 2 | `2048` |" in as_written
    page.write_text(as_written.replace("`2048`", "`512`"), encoding="utf-8")
    found = reference(tmp_path / "docs", "--check")
    assert found.returncode == 1
    assert found.stderr.startswith("docs/reference-study-file.md: the code says otherwise")
    assert not reference(tmp_path / "docs").returncode
    assert page.read_text(encoding="utf-8") == as_written
