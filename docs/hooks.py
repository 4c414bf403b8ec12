"""What mkdocs does besides rendering docs/: `mkdocs.yml` names this file under `hooks`.

Pages are written for a repository's browser, where links lead to any file of the project, README.md
opens a folder, and formulas are drawn. On the site

- the project's own pages (`PAGES`) get a place, and files that pages link to are copied;
- formulas become MathML, which browsers draw without a script;
- a page that the two Markdown dialects read differently is a warning, so that `--strict` fails.
"""

from __future__ import annotations

import html
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/README.md": "contents.md",
}
"""Where pages stand on the site that are not in docs/, or that mkdocs would take for its home."""

_SOURCES = {site: source for source, site in PAGES.items()}
_CODE = re.compile(r"```.*?^\s*```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LOST_CODE = re.compile(
    r"^ *(?:[-*]|\d+\.) .*(?:\n +\S.*)*\n\n {4}(?![ *-]|\d+\.)(\S.*)$", re.MULTILINE
)
_LINK = re.compile(r"(\]\()([^)\s]+)(?=[)\s])")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_PRIME = "&#x02032;"
_COUNTED = ("h2", "h3", "li", "ol", "pre", "table", "tr", "ul")
_log = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's own pages, and the files that any page links to."""
    for source, site in PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / source).read_text("utf-8")))
    for file in files.documentation_pages():
        source = _source(file.src_uri)
        for target in _targets((ROOT / source).read_text("utf-8"), source):
            site = _place(target)
            copied = not site.endswith(".md") and (ROOT / target).is_file()
            if copied and files.get_file_from_path(site) is None:
                content = (ROOT / target).read_bytes()
                files.append(File.generated(config, site, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with its links as they lead on the site."""
    source, here = _source(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        if not path or ":" in path:
            return match[0]
        site = _place(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
        if files.get_file_from_path(site) is None:
            return match[0]  # mkdocs warns of it
        return match[1] + posixpath.relpath(site, here or ".") + mark + anchor

    folders = _without_folders(markdown, source)
    return _outside_code(folders, lambda text: _LINK.sub(led, text))


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with formulas as MathML; warn where the dialects of Markdown differ."""
    written = (ROOT / _source(page.file.src_uri)).read_text("utf-8")
    ours = Counter(re.findall(r"<(\w+)", content))
    theirs = Counter(re.findall(r"<(\w+)", MarkdownIt("gfm-like").render(written)))
    for tag in _COUNTED:
        # A formula on its own is no code here, though a browser without formulas shows it as such.
        n = theirs[tag] - (written.count("```math") if tag == "pre" else 0)
        if ours[tag] != n:
            _log.warning(
                f"{page.file.src_uri}: has {ours[tag]} <{tag}> on the site, {n} in a repository's "
                "browser. Indent what is nested by 4 spaces, and leave a line free before it."
            )
    for lost in _LOST_CODE.finditer(_CODE.sub("", written)):
        _log.warning(
            f"{page.file.src_uri}: {lost[1]!r} is read as a paragraph of the list above it. Put a "
            "sentence between them, or indent it by 8 spaces."
        )
    return _FORMULA.sub(_formula, content)


def _formula(match: re.Match[str]) -> str:
    """Return a formula of the page as MathML."""
    shown = "block" if match[2] == "[" else "inline"
    drawn = convert(html.unescape(match[3]).strip(), display=shown)
    drawn = re.sub(r"(<mi>(?:log|min|max)</mi>)", r'\1<mspace width="0.17em"/>', drawn)
    # A prime is raised already: as a superscript it would be too small to read.
    drawn = re.sub(rf"<msup>(<mi>\w</mi>)<mi>({_PRIME})</mi></msup>", r"\1<mo>\2</mo>", drawn)
    return f'<div class="formula">{drawn}</div>' if shown == "block" else drawn


def _source(site: str) -> str:
    """Return which file of the project a page of the site is made of."""
    return _SOURCES.get(site, f"docs/{site}")


def _place(path: str) -> str:
    """Return where a file of the project stands on the site."""
    return PAGES.get(path) or path.removeprefix("docs/")


def _targets(text: str, source: str) -> set[str]:
    """Return the files and folders of the project that a page links to, from the root."""
    links = [found[2].partition("#")[0] for found in _LINK.finditer(_CODE.sub("", text))]
    folder = posixpath.dirname(source)
    paths = [path for path in links if path and ":" not in path]
    return {posixpath.normpath(posixpath.join(folder, path)) for path in paths}


def _without_folders(text: str, source: str) -> str:
    """Return the page with links to folders as plain text: a site has no page for these."""
    for target in _targets(text, source):
        if (ROOT / target).is_dir():
            path = re.escape(posixpath.relpath(target, posixpath.dirname(source) or "."))
            text = re.sub(rf"\[([^\]]+)\]\({path}/?\)", r"\1", text)
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return `text` with what is not code changed."""
    parts, last = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*parts, change(text[last:])])
