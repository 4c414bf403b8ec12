"""Tables and text as Markdown, LaTeX and HTML. Names come from outside: shown, never obeyed."""

from __future__ import annotations

import html as _html
import re
from collections.abc import Sequence

from seedconv_tui.report.parts import Block, PageTable
from seedconv_tui.text import visible

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|~$&#!]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": r"{-}",  # two would become a dash
    "[": "{[}",  # after a line break these would be its arguments
    "]": "{]}",
    "*": "{*}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}",
    "\u201d": r"\textquotedblright{}",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2026": r"\textellipsis{}",
}
_PICTURES = 0x2400  # where `visible` finds those of control characters
# Points of LaTeX's small letters, and between columns; what one and two columns of a page hold, of
# the narrowest of the usual styles (ACL).
_LETTER, _BETWEEN, _COLUMN, _PAGE = 4.5, 12, 218, 453
_MONO = 4.2  # a footnote's letter of one width


def md(text: str) -> str:
    """Return text for one line of Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text))


def tex(text: str) -> str:
    """Return text for LaTeX; characters that its usual fonts lack are named (`U+4E2D`)."""
    return "".join(_tex_char(char) for char in visible(text))


def _tex_char(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    if _PICTURES <= ord(char) < _PICTURES + 32:
        return tex(chr(ord(char) - _PICTURES).encode("unicode_escape").decode())
    return char if char.isascii() or "\u00a1" <= char <= "\u00ff" else f"U+{ord(char):04X}"


def html(text: str) -> str:
    """Return text for HTML, attributes included."""
    return _html.escape(visible(text), quote=True)


# -- whole tables --------------------------------------------------------------------------------


def md_table(table: PageTable) -> str:
    """Return a pipe table under a heading."""
    lines = [f"## {md(table.title)}", ""]
    if table.rows:
        marks = [":--" if at < table.n_names else "--:" for at in range(len(table.header))]
        lines += [_md_row(table.header), "|" + "|".join(marks) + "|"]
        lines += [_md_row(row) for row in table.rows]
        lines.append("")
    if table.note:
        lines += [md(table.note), ""]
    return "\n".join(lines)


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(md, cells)) + " |"


def md_block(block: Block) -> str:
    """Return a fenced block under a heading, ready to paste."""
    lines = [visible(line) for line in block.lines]
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"## {md(block.title)}", "", fence, *lines, fence, ""])


def tex_table(table: PageTable) -> str:
    """Return a `table` environment; it needs `booktabs`, and `graphicx` where it is very wide."""
    if not table.rows:
        return rf"\paragraph{{{tex(table.title)}.}} {tex(table.note)}" + "\n"
    longest = [max(map(_n_letters, cells)) for cells in zip(table.header, *table.rows, strict=True)]
    columns = "l" * table.n_names + "r" * (len(table.header) - table.n_names)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _tex_row(table.header),
        r"\midrule",
        *map(_tex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    points = _LETTER * sum(longest) + _BETWEEN * len(longest)
    return _tex_float(lines, points, r"\small", f"{table.title}. {table.note}")


def _tex_float(lines: Sequence[str], points: float, letters: str, caption: str) -> str:
    """Across both columns where it is too wide for one, and scaled where for these too."""
    star = "*" if points > _COLUMN else ""
    if points > _PAGE:
        lines = [r"\resizebox{\textwidth}{!}{%", *lines[:-1], lines[-1] + "}"]
    return "\n".join(
        [
            rf"\begin{{table{star}}}",
            r"\centering",
            "{" + letters,
            *lines[:-1],
            lines[-1] + "}",
            rf"\caption{{{tex(caption)}}}",
            rf"\end{{table{star}}}",
            "",
        ]
    )


def _n_letters(text: str) -> int:
    """Return how many letters LaTeX sets for a text."""
    return len(re.sub(r"[\\{}]", "", re.sub(r"\\text[a-z]+{}", ".", tex(text))))


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(tex(cell) or "{}" for cell in cells) + r" \\"


def tex_block(block: Block) -> str:
    """Return the same for lines in letters of one width, blanks kept."""
    lines = [
        r"\begin{tabular}{l}",
        *(tex(line).replace(" ", "~") + r" \\" for line in block.lines),
        r"\end{tabular}",
    ]
    points = _MONO * max(map(_n_letters, block.lines)) + _BETWEEN
    return _tex_float(lines, points, r"\footnotesize\ttfamily", block.title)


def html_table(table: PageTable) -> str:
    """Return a section with a table."""
    parts = [f"<section><h2>{html(table.title)}</h2>"]
    if table.rows:
        head = "".join(_html_cell("th", cell, at, table) for at, cell in enumerate(table.header))
        rows = (
            "".join(_html_cell("td", cell, at, table) for at, cell in enumerate(row))
            for row in table.rows
        )
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
            f"<tbody>{body}</tbody></table></div>"
        )
    if table.note:
        parts.append(f"<p>{html(table.note)}</p>")
    return "\n".join([*parts, "</section>"])


def _html_cell(tag: str, text: str, at: int, table: PageTable) -> str:
    number = "" if at < table.n_names else ' class="number"'
    return f"<{tag}{number}>{html(text)}</{tag}>"


def html_block(block: Block) -> str:
    """Return a section with unchanged lines."""
    lines = "\n".join(map(html, block.lines))
    return f"<section><h2>{html(block.title)}</h2>\n<pre>{lines}</pre></section>"
