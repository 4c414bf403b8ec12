"""Hold pages and code against the style guide: banned words, long sentences, missing headings.

    python docs/prose.py [--rules] FILE|FOLDER ...

Exit code 1 if something is found, with one line each: file, line, what, and what to write instead.
In pages, code, tables' rules, links' targets and HTML comments are not prose. In Python,
docstrings, comments and messages (strings with a space) are; in TOML, comments are.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONGEST = 30  # words a sentence; a name in backticks counts as one
FARTHEST = 90  # lines of prose without a heading of the second level

# What a reader stumbles over, and what to write instead. Patterns match whole words.
BANNED = {
    r"(?:is|are|was|were) told": "name who reports what",
    r"tells?": "reports, prints, describes",
    r"told apart": "distinguished",
    r"is done is done": "finished work is not repeated",
    r"make do": "limit",
    r"beside": "next to, in addition to, during",
    r"anew": "again",
    r"mend(?:s|ed|ing)?": "repair",
    r"parted": "split, divided",
    r"kin": "such as",
    r"gives? way": "is released",
    r"says? nothing": "does not apply, has no effect",
    r"whoever": "name the person",
    r"as (?:it is|they are)(?! \w+ed| now)": "unchanged; or leave it out",
    r"of which": "two sentences",
    r"all that": "name the thing",
    r"so many": "name the number",
    r"(?:is|are) gone(?!:)": "deleted; `gone` of a checkpoint",
    r"(?-i:hub|hubs|hub's)": "the Hugging Face Hub, then: the Hub",
    r"left alone(?! is)": "unchanged, not retried",
    r"(?:go|goes) on where": "resumes, continues",
}
_PATTERNS = [
    (re.compile(rf"(?<![\w-])(?:{words})(?![\w-])".replace(" ", r"\s+"), re.IGNORECASE), instead)
    for words, instead in BANNED.items()
]

_NOT_PROSE = [
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"^(?: {4,}|\t)(?!\s*[-*\d]).*$", re.MULTILINE),  # code, unless a list's own lines
    re.compile(r"(?<=\])\([^)]*\)"),  # where a link leads
]
_CODE = re.compile(r"`[^`]*`", re.DOTALL)


def prose(text: str) -> str:
    """Return a page's text with what is not prose blanked out, line by line as it was."""
    for pattern in _NOT_PROSE:
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    # A name in backticks stays one word, which no rule bans.
    return _CODE.sub(lambda found: "`" + re.sub(r"[^\n]", "x", found[0][1:-1]) + "`", text)


def sentences(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, words) of each sentence; an item of a list or a cell of a table begins one.

    A colon and a semicolon end one, too: what they join can be read apart.
    """
    words: list[str] = []
    begun = 0
    for number, line in enumerate(text.splitlines(), 1):
        begins = not line.strip() or re.match(r"\s*(?:[-*>|#]|\d+\.)(?:\s|$)", line)
        if begins and words:
            yield begun, words
            words = []
        if line.lstrip().startswith("#"):
            continue
        if begins:  # the mark of a list's item is no word
            line = re.sub(r"^\s*(?:[-*>]|\d+\.)\s", "", line)
        for word in line.replace("|", " | ").split():
            if not words:
                begun = number
            if word != "|":
                words.append(word)
            if words and (word == "|" or re.search(r"[.!?:;][)\"*_]*$", word)):
                yield begun, words
                words = []
    if words:
        yield begun, words


def banned(plain: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong and what to do) of each banned word."""
    for pattern, instead in _PATTERNS:
        for found in pattern.finditer(plain):
            line = plain.count("\n", 0, found.start()) + 1
            yield line, f"{' '.join(found[0].split())!r}: write another word ({instead})"


def too_long(plain: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong) of each sentence with too many words."""
    for line, words in sentences(plain):
        if len(words) > LONGEST:
            start = " ".join(words[:6])
            yield line, f"a sentence of {len(words)} words, above {LONGEST}: {start!r} ..."


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong and what to do) of a page."""
    plain = prose(text)
    yield from banned(plain)
    yield from too_long(plain)
    last = 1
    lines = plain.splitlines()
    for number, line in enumerate([*lines, "## the end"], 1):
        if re.match(r"##+ ", line):
            if sum(bool(one.strip()) for one in lines[last - 1 : number - 1]) > FARTHEST:
                yield last, f"more than {FARTHEST} lines without a heading (##)"
            last = number


def faults_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong and what to do) of docstrings, comments and messages."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)) as docstring):
                for line, what in too_long(prose(text)):
                    yield docstring.lineno + line - 1, what
            case ast.Constant(value=str(text)) if " " in text:
                for line, what in banned(prose(text)):
                    yield node.lineno + line - 1, what
    yield from faults_of_comments(source)


def faults_of_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong and what to do) of comments of Python."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            for _, what in banned(prose(token.string[1:])):
                yield token.start[0], what


def faults_of_toml(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong and what to do) of comments of TOML."""
    for number, line in enumerate(text.splitlines(), 1):
        for _, what in banned(prose(line.partition("#")[2].strip())):
            yield number, what


CHECKS = {".md": faults, ".py": faults_of_python, ".toml": faults_of_toml}


def files_of(path: Path) -> list[Path]:
    """Return the file, or all files of a folder that can be checked."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in CHECKS)
    return [path]


def main() -> int:
    """Check the files named; print what is wrong, and return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE|FOLDER")
    parser.add_argument("--rules", action="store_true", help="print the banned words and end")
    options = parser.parse_args()
    if options.rules:
        for words, instead in BANNED.items():
            print(f"{words}: {instead}")
    wrong = 0
    for file in [file for path in options.files for file in files_of(path)]:
        for line, what in sorted(CHECKS[file.suffix](file.read_text(encoding="utf-8"))):
            print(f"{file}:{line}: {what}", file=sys.stderr)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
