"""The documentation as a site: it is built, stands alone, and has all files that pages link to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Build the site in `folder`, as `make docs` does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.findall(r"/mkdocs (build [^#\n]*)", makefile)[0].split()
    command = [sys.executable, "-m", "mkdocs", *options, "-d", str(folder), "-f", str(config)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert not built.returncode, built.stdout + built.stderr
    return folder


def test_a_warning_fails(tmp_path: Path) -> None:
    config = tmp_path / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    text = text.replace("docs_dir: docs", f"docs_dir: {ROOT / 'docs'}").replace(
        "- docs/hooks.py", f"- {ROOT / 'docs' / 'hooks.py'}"
    )
    config.write_text(text.replace("glossary.md", "nowhere.md"), encoding="utf-8")
    built = build(tmp_path / "site", config)
    assert built.returncode
    assert "nowhere.md" in built.stderr


def test_every_page_is_on_it(site: Path) -> None:
    names = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"}
    assert names | {"index", "contents", "changelog"} <= {page.stem for page in site.glob("*.html")}


def test_nothing_comes_from_another_host(site: Path) -> None:
    asked = re.compile(
        r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=["'](?:https?:)?//"""
        r"""|url\(["']?(?:https?:)?//|@import""",
    )
    files = [file for kind in ("html", "css", "svg") for file in site.rglob(f"*.{kind}")]
    assert len(files) > 30
    assert not [file.name for file in files if asked.search(file.read_text(encoding="utf-8"))]


def test_links_lead_to_files_of_it(site: Path) -> None:
    """Also those to files of the project outside docs/, such as the examples."""
    dead, seen = [], set()
    for page in site.glob("*.html"):
        for link in re.findall(r"""(?:href|src)=["']([^"'#]+)""", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", link) and page.name != "404.html":
                seen.add(link)
                dead += [] if (page.parent / link).exists() else [(page.name, link)]
    assert not dead
    assert {
        "examples/pythia.toml",
        "curves.svg",
        "benchmarks/results/speed-2-core-x86_64-cpu.json",
    } <= seen


def test_formulas_are_drawn(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    assert page.count("<math ") > 40
    assert "arithmatex" not in page
    wide = re.findall(r"<math [^>]*display=.block.", page)
    assert len(wide) == page.count('<div class="formula">') > 3  # it scrolls where it is too wide
    formulas = re.findall(r"<math .*?</math>", page, re.DOTALL)
    assert not [formula for formula in formulas if "\\" in formula]
