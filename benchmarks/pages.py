"""Puts figures of benchmarks/results/ into README and docs: `python -m benchmarks.pages`.

No figure of a benchmark is written by hand. A page marks where one belongs,

    <!--= memory none.peak_mb_4x ,.0f -->800<!--=-->

with the benchmark, the path in its results, how it is written as in `format()`, and, if it needs
one, a factor (`x0.001`). Between `<!--= table -->` and `<!--=-->` stands the table of all figures
that `benchmarks.registry` lists. With `--check` nothing is written; a page that does not agree with
the results ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.registry import BENCHMARKS, Figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MACHINE = "2-core-x86_64-cpu"  # whose results the pages show
_MARK = re.compile(r"(<!--= ([^>]+?) -->)(.*?)(<!--=-->)", re.DOTALL)
_NONE = "not measured"


def pages() -> list[Path]:
    """Return every page that can hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@cache
def results(name: str) -> dict[str, Any]:
    """Return what was kept of a benchmark; empty when nothing was."""
    file = RESULTS / f"{name}-{MACHINE}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def look_up(name: str, path: str) -> Any:
    """Return one value of a benchmark's results. Raise KeyError when it is not there."""
    found: Any = results(name)[name]
    for part in path.split("."):
        try:
            found = found[int(part) if isinstance(found, list) else part]
        except (IndexError, KeyError, TypeError, ValueError):
            raise KeyError(f"{name} {path}") from None
    return found["figure"] if isinstance(found, dict) and "figure" in found else found


def written(name: str, path: str, form: str, factor: str = "x1") -> str:
    """Return one figure as a page shows it."""
    return format(float(look_up(name, path)) * float(factor[1:]), form)


def row(name: str, figure: Figure) -> tuple[str, str]:
    """Return a figure with its unit, and what else the machine did; or that there is none."""
    try:
        value = written(name, figure.path, figure.form)
    except KeyError:
        return _NONE, ""
    on = results(name)["machine"]
    if "others_cores" in on:
        beside = f"{on['others_cores']:.1f} cores"
    else:
        beside = f"load {on['load_before']:.1f}" if "load_before" in on else "unknown"
    return f"{value} {figure.unit}".strip(), beside


def table() -> str:
    """Return every figure of the registry as a table."""
    lines = ["", "", "| benchmark | figure | measured | goal | other work meanwhile |"]
    lines += ["|---|---|---|---|---|"]
    for one in BENCHMARKS:
        for figure in one.figures:
            value, beside = row(one.name, figure)
            cells = (f"`{one.name}`", figure.title, value, figure.goal, beside)
            lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join([*lines, "", ""])


def list_of() -> str:
    """Return what each benchmark measures and takes, as a table."""
    lines = ["", "", "| benchmark | measures | minutes |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {one.measures} | {one.minutes:g} |" for one in BENCHMARKS]
    return "\n".join([*lines, "", ""])


def fill(text: str, page: str) -> str:
    """Return a page with its marks filled in from the results."""

    def one(match: re.Match[str]) -> str:
        match match[2].split():
            case ["table"]:
                value = table()
            case ["benchmarks"]:
                value = list_of()
            case [name, path, form, *factor] if len(factor) < 2:
                try:
                    value = written(name, path, form, *factor)
                except KeyError:
                    sys.exit(
                        f"{page}: the results have no {name} {path}. Run `python -m benchmarks "
                        f"{name} --save`, or take the mark from the page."
                    )
            case _:
                sys.exit(f"{page}: cannot read the mark {match[1]}. See benchmarks/pages.py.")
        return match[1] + value + match[4]

    return _MARK.sub(one, text)


def write(*, check: bool = False) -> list[str]:
    """Write every page that does not agree, unless only checking; return the names of those."""
    wrong = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        filled = fill(text, page.name)
        if filled != text:
            wrong.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(filled, encoding="utf-8")
    return wrong


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    options = parser.parse_args()
    wrong = write(check=options.check)
    if options.check and wrong:
        sys.exit(
            f"{', '.join(wrong)}: figures differ from benchmarks/results. "
            "Run `python -m benchmarks.pages`."
        )
    for name in wrong:
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
