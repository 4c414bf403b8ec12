"""Write the pages of reference that follow from the code: `python docs/reference.py`.

Below its mark (`MARK`) such a page is what the code says; what stands above is written by hand.

- docs/reference-study-file.md: sections of the study file, from their classes: types, defaults, and
  the docstring of each field; examples from the template.
- docs/reference-commands.md: commands and options, from their parser.
- docs/export.md: tables and columns, as `seedconv export --columns` prints them.

With `--check` nothing is written; a page that does not agree with the code ends it with status 1.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from engine.study_file import file as study_file
from engine.study_file.file import StudyFile
from engine.study_file.models_section import SeedLabel
from engine.study_file.section import Section
from seedconv_tui.cli.main import COMMANDS, full_parser
from seedconv_tui.cli.options import Command
from seedconv_tui.tables.long_tables import markdown

DOCS = Path(__file__).parent
MARK = "<!-- written by `python docs/reference.py` -->\n"
TEMPLATE = Path(study_file.__file__).with_name("template.toml")

# -- the study file --------------------------------------------------------------------------------


def study_file_page() -> str:
    """Return every section of the study file, with its fields, as Markdown."""
    return "\n".join(
        part for name, model, many in sections() for part in section(name, model, many)
    )


def sections() -> Iterator[tuple[str, type[Section], bool]]:
    """Yield (name, class, whether there can be several) of each section, in order."""
    for name, field in StudyFile.model_fields.items():
        if found := section_of(field.annotation):
            model, many = found
            yield name, model, many
            for inner, part in model.model_fields.items():
                if below := section_of(part.annotation):
                    yield f"{name}.{inner}", *below


def section_of(annotation: Any) -> tuple[type[Section], bool] | None:
    """Return the class of a section that a field holds, and whether it is a list of them."""
    many = get_origin(annotation) is list
    inner = get_args(annotation)[0] if many else annotation
    return (inner, many) if isinstance(inner, type) and issubclass(inner, Section) else None


def section(name: str, model: type[Section], many: bool) -> Iterator[str]:
    """Yield the lines on one section."""
    meaning, examples = docstrings(model), template_examples().get(name, {})
    yield from (f"## `{'[[' if many else '['}{name}{']]' if many else ']'}`", "")
    yield from (plain(model.__doc__ or ""), "")
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for key, field in model.model_fields.items():
        if section_of(field.annotation):
            continue
        says, default = meaning[key], default_of(field)
        kind, example = type_in_words(field), f"`{examples.get(key, '')}`"
        same = example.strip("`") == default.strip("`").removesuffix(".0")
        if not same and example not in f"`` {kind} {says}":
            says += f"; for example {example}"
        yield row(f"`{key}`", kind, default, says)
    yield ""


def docstrings(model: type[Section]) -> dict[str, str]:
    """Return what the code says below each field of a section. Raise ValueError for one without."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            found[ast.unparse(field.target)] = plain(ast.literal_eval(after.value))
    if absent := model.model_fields.keys() - found.keys():
        raise ValueError(f"{model.__name__}: no docstring below {', '.join(sorted(absent))}")
    return found


def type_in_words(field: FieldInfo) -> str:
    """Return the type of a field, as one who writes TOML calls it."""
    bounds = [(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt")]
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{signs[name]} {getattr(m, name):,.0f}"
        for m, name in bounds
        if getattr(m, name, None) is not None
    ]
    return ", ".join([words_of(field.annotation), *limits])


def words_of(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is SeedLabel:
        return "text or whole number"
    if origin is Annotated:
        return type_in_words(FieldInfo.from_annotation(annotation))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin in {Union, types.UnionType}:
        return " or ".join(words_of(one) for one in inner if one is not type(None))
    if origin is list:
        return f"list of: {words_of(inner[0])}"
    if origin is dict:
        return f"table of: {words_of(inner[1])}"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}[annotation]


def default_of(field: FieldInfo) -> str:
    """Return the default of a field in TOML; nothing if it is to be left out."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f"`{json.dumps(value)}`"


@cache
def template_examples() -> dict[str, dict[str, str]]:
    """Return the values in the template, by section and field; the first of several."""
    found: dict[str, dict[str, str]] = {}
    here: dict[str, str] = {}
    for line in TEMPLATE.read_text(encoding="utf-8").splitlines():
        if begins := re.match(r"(?:# )?\[+([a-z_.]+)\]+(?:\s|$)", line):
            here = found.setdefault(begins[1], {})
        elif field := re.match(r"(?:# )?([a-z_]+) = (.*?)(?:,?\s+#\s.*)?$", line):
            here.setdefault(field[1], field[2].strip())
    return found


# -- commands --------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return every command with its options, as Markdown."""
    parser = full_parser()
    (subcommands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    lines = ["| command | |", "|---|---|"]
    lines += [row(f"[`seedconv {n}`](#seedconv-{n})", command(n).HELP) for n in COMMANDS]
    for name in COMMANDS:
        lines += ["", f"## `seedconv {name}`", "", *command_lines(name, subcommands.choices[name])]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def command(name: str) -> Command:
    """Return the module of a command."""
    module: Any = sys.modules[f"seedconv_tui.cli.{name}"]
    return module  # type: ignore[no-any-return]


def command_lines(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines on one command: what it does, how it is called, each option."""
    yield from (parser.description or "", "")
    places = [a for a in parser._actions if not a.option_strings]
    needed = [a for a in parser._actions if a.option_strings and a.required]
    words = ["seedconv", name, "[OPTIONS]"]
    words += [spelt(action).rpartition(", ")[2] for action in needed]
    words += [called(action) for action in places]
    yield from (f"    {' '.join(words)}", "", f"Example: `{command(name).EXAMPLE}`", "")
    page = command(name).PAGE
    title = re.search(r"^# (.*)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert title is not None
    if page != "reference-commands.md":
        yield from (f"More: [{title[1]}]({page})", "")
    for group in parser._action_groups:
        shown = [
            a
            for a in group._group_actions
            if a.help is not argparse.SUPPRESS and not {"--help", "--debug"} & {*a.option_strings}
        ]
        if shown:
            head = "argument" if group is parser._positionals else "option"
            named = "" if group in (parser._positionals, parser._optionals) else group.title
            yield from ([f"{named[0].upper()}{named[1:]}:", ""] if named else [])
            yield from (f"| {head} | |", "|---|---|")
            for action in shown:
                text = parser._get_formatter()._expand_help(action)
                if many_choices(action):
                    text += f": {', '.join(f'`{one}`' for one in action.choices or ())}"
                names = [spelt(action)] if action.option_strings else [called(action)]
                yield row(", ".join(f"`{one}`" for one in names), text)
            yield ""


def called(action: argparse.Action) -> str:
    """Return how a positional argument is written in a command."""
    name = str(action.metavar or action.dest)
    match action.nargs:
        case "+":
            return f"{name} [{name} ...]"
        case "?":
            return f"[{name}]"
        case "*":
            return f"[{name} ...]"
    return "|".join(map(str, action.choices)) if action.choices and not action.metavar else name


def spelt(action: argparse.Action) -> str:
    """Return an option with all its names and its value."""
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    choices = "{" + ",".join(map(str, action.choices or ())) + "}"
    few = action.choices and not many_choices(action)
    value = action.metavar or (choices if few else action.dest.upper())
    many = action.nargs if isinstance(action.nargs, int) else 1
    shown = list(value) if isinstance(value, tuple) else [value] * many
    return f"{names} {' '.join(shown)}"


def many_choices(action: argparse.Action) -> bool:
    """Return whether the choices of an option are too many for its own column."""
    return len(",".join(map(str, action.choices or ()))) > 30 and not action.metavar


# -- pages -----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return a docstring in one line."""
    return " ".join(text.split())


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace(
        "  ", " "
    )


PAGES: dict[str, Callable[[], str]] = {
    "reference-study-file.md": study_file_page,
    "reference-commands.md": commands_page,
    "export.md": markdown,
}


def main() -> None:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    wrong = []
    for name, write in PAGES.items():
        page = DOCS / name
        text = page.read_text(encoding="utf-8")
        by_hand, mark, _ = text.partition(MARK)
        if not mark:
            sys.exit(f"docs/{name}: has no line {MARK.strip()!r}")
        written = f"{by_hand}{MARK}\n{write().strip()}\n"
        if written != text:
            wrong.append(f"docs/{name}")
            if not check:
                page.write_text(written, encoding="utf-8")
    if check and wrong:
        sys.exit(f"{', '.join(wrong)}: the code says otherwise. Run `python docs/reference.py`.")
    for name in wrong:
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
