"""Examples on the pages: commands are commands, Python is run, quoted output is what comes out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seedconv_tui.cli.main import COMMANDS, full_parser

ROOT = Path(__file__).parents[1]
TEXTS = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
PYTHON = re.compile(r"^(.*)\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Run by `docs/examples.py`, a folder for each group. Those with models take long.
SHORT = ["docs/export.md", "docs/store-format.md"]
LONG = [
    "README.md",
    "docs/comparisons.md",  # and docs/uncertainty.md
    "docs/alerts.md",  # and docs/status.md
    "docs/probes.md",
    "docs/watching.md",
    "docs/tutorial-paper.md",
]
TUTORIALS = ["docs/tutorial-first-results.md", "docs/tutorial-live.md"]  # go with the last one
ELSEWHERE = {
    "docs/capture.md": "tests/end_to_end/test_capture_docs.py",
    "docs/loader.md": "tests/engine/test_loaders.py",
    "docs/text.md": "tests/engine/test_language.py",
}


def agree(page: str) -> None:
    """Fail if output on a page differs from what its examples print."""
    command = [sys.executable, "docs/examples.py", "--check", page]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert not ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("page", SHORT)
def test_output_is_what_comes_out(page: str) -> None:
    agree(page)


@pytest.mark.long
@pytest.mark.parametrize("page", LONG)
def test_output_of_models_is_what_comes_out(page: str) -> None:
    agree(page)


def test_every_snippet_is_run_or_says_why_not() -> None:
    left = []
    for page, text in TEXTS.items():
        for before, code in PYTHON.findall(text):
            if page in ELSEWHERE:
                assert page in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")
            elif page not in {*SHORT, *LONG, *TUTORIALS} and "<!-- not run: " not in before:
                left.append((page, code))
    assert not left


def commands(text: str) -> list[str]:
    """Lines of a page's code that call `seedconv`, whole and without comments or pipes."""
    fenced = re.findall(r"^```(?:console|sh|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += re.findall(r"^ {4}(seedconv .*)$", text, re.MULTILINE)
    found = []
    for line in lines:
        called = re.match(r"(?:\$ )?(seedconv .*)", line)
        if called and not called[1].endswith("\\"):
            found.append(re.split(r" [|>&;]|2>|\[OPTIONS\]", called[1])[0])
    return [line for line in found if line not in {f"seedconv {name} " for name in COMMANDS}]


@pytest.mark.parametrize("page", [page for page in TEXTS if commands(TEXTS[page])])
def test_commands_are_commands(page: str) -> None:
    for line in commands(TEXTS[page]):
        words = shlex.split(line, comments=True)[1:]
        if not words or words[0].startswith("-"):
            continue
        if words[0].isupper() or words[0].endswith(".zarr"):
            words = ["tui", *words]  # as `seedconv STORE` is read
        if not {"--help", "--columns"} & {*words}:  # which end the process
            assert full_parser().parse_args(words).run
