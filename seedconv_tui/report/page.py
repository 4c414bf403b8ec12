"""A report as Markdown, LaTeX and one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from seedconv_tui.report import markup
from seedconv_tui.report.parts import Block, Figure, Omitted, PageTable

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
figure { margin: 2.2rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, p, li { color: #333; font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .15rem .6rem; text-align: left; white-space: pre-wrap; }
th { border-bottom: 1px solid #444; } td { border-bottom: 1px solid #ddd; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; font-size: .8rem; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_INCH = 96  # CSS pixels


def captions(figures: Sequence[Figure]) -> str:
    """Return all captions, Markdown."""
    parts = [
        f"## {markup.md(figure.name)}\n\n**{markup.md(figure.title)}.** "
        f"{markup.md(figure.caption)}\n"
        for figure in figures
    ]
    return "# Captions\n\n" + "\n".join(parts)


def summary_md(name: str, tables: Sequence[PageTable | Block], left: Sequence[Omitted]) -> str:
    """Return all tables, Markdown."""
    parts = [f"# {markup.md(name)}\n"]
    parts += [
        markup.md_block(item) if isinstance(item, Block) else markup.md_table(item)
        for item in tables
    ]
    if left:
        lines = [f"- {markup.md(item.name)}: {markup.md(item.why)}" for item in left]
        parts.append("\n".join(["## Left out", "", *lines, ""]))
    return "\n".join(parts)


def summary_tex(tables: Sequence[PageTable | Block]) -> str:
    r"""Return all tables, to be taken into a LaTeX document with `\input`."""
    head = "% Needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage[T1]{fontenc}.\n"
    parts = [
        markup.tex_block(item) if isinstance(item, Block) else markup.tex_table(item)
        for item in tables
    ]
    return head + "\n".join(parts)


def page(
    name: str,
    settings: str,
    figures: Sequence[Figure],
    pictures: Mapping[str, tuple[bytes, float]],
    tables: Sequence[PageTable | Block],
    left: Sequence[Omitted],
) -> str:
    """Return the page; `pictures` are PNG files and their widths, inches, by name of figure."""
    html = markup.html
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html(name)}: convergence across seeds</title><style>{_STYLE}</style></head>",
        "<body>",
        f"<h1>{html(name)}</h1><p>{html(settings)}</p>",
    ]
    for figure in figures:
        data, inches = pictures[figure.name]
        image = base64.b64encode(data).decode()
        parts.append(
            f'<figure id="{html(figure.name)}"><img alt="{html(figure.title)}" '
            f'width="{round(inches * _INCH * 1.25)}" src="data:image/png;base64,{image}">'
            f"<figcaption><b>{html(figure.title)}.</b> {html(figure.caption)}</figcaption></figure>"
        )
    parts += [
        markup.html_block(item) if isinstance(item, Block) else markup.html_table(item)
        for item in tables
    ]
    if left:
        items = "\n".join(f"<li>{html(item.name)}: {html(item.why)}</li>" for item in left)
        parts.append(f"<section><h2>Left out</h2><ul>{items}</ul></section>")
    return "\n".join([*parts, "</body></html>\n"])
