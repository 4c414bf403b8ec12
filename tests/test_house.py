"""The rules of the house that no linter knows: sizes, names said once, tests that stand alone."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("store", "engine", "seedconv_tui")
MOST_LINES = 400
# Commands are named as users type them; screens by their folder; and what scripts imported before
# stays under its old name.
COMMANDS, SCREEN = Path("seedconv_tui/cli"), "screen.py"
KEPT = {Path("engine/callback.py"), Path("engine/announcing.py")}

# Where each large library is imported: when it changes, one place changes. Torch has two: it is
# what the engine runs, and what the scripts train with that `training` serves.
DOORS = {
    "aiohttp": ("seedconv_tui/web",),
    "accelerate": ("engine/models/spreading.py",),
    "google_crc32c": ("store/storage",),
    "numcodecs": ("store/storage",),
    "obstore": ("store/storage/remote.py", "store/storage/committed_objects.py"),
    "psutil": ("engine/machine",),
    "pydantic": ("engine/study_file",),
    "ray": ("engine/workers/ray.py",),
    "spacy": ("engine/categories",),
    "textual": ("seedconv_tui/monitor",),
    "textual_serve": ("seedconv_tui/web",),
    "torch": ("engine", "seedconv_tui/training"),
    "zarr": ("store",),
}


def modules() -> list[Path]:
    """Every file of the three packages, relative to the root."""
    return [file.relative_to(ROOT) for name in PACKAGES for file in (ROOT / name).rglob("*.py")]


def several(names: Iterable[str]) -> list[str]:
    return sorted(name for name, n in Counter(names).items() if n > 1)


def test_files_are_short() -> None:
    lines = {str(file): (ROOT / file).read_bytes().count(b"\n") for file in modules()}
    assert not {file: n for file, n in lines.items() if n >= MOST_LINES}


def test_every_module_has_a_name_of_its_own() -> None:
    shared = several(
        file.stem
        for file in modules()
        if file.name not in {"__init__.py", "errors.py", SCREEN}
        and file not in KEPT
        and file.parent != COMMANDS
    )
    assert not shared


def test_every_public_class_has_a_name_of_its_own() -> None:
    shared = several(
        node.name
        for file in modules()
        for node in ast.parse((ROOT / file).read_bytes()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not shared


def test_each_large_library_has_one_door() -> None:
    wrong = [
        f"{file} imports {library}"
        for file in modules()
        for library in {name.partition(".")[0] for name in imported(ROOT / file)} & DOORS.keys()
        if not any(file.is_relative_to(door) for door in DOORS[library])
    ]
    assert not wrong


def test_tests_import_no_tests() -> None:
    """What they share is in tests/support; benchmarks take nothing else of the tests."""
    folders = {"tests": ["tests.support"], "benchmarks": ["tests.support", "benchmarks"]}
    wrong = []
    for folder, allowed in folders.items():
        for file in (ROOT / folder).rglob("*.py"):
            soak = ["tests.soak"] if file.parent.name == "soak" else []
            wrong += [
                f"{file.relative_to(ROOT)} imports {name}"
                for name in imported(file)
                if name.partition(".")[0] in folders
                and not any(f"{name}.".startswith(f"{known}.") for known in [*allowed, *soak])
            ]
    assert not wrong


def imported(file: Path) -> Iterator[str]:
    """Every name that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_imports_go_in_a_circle() -> None:
    """Imports for types alone count, too: a circle of them is one of what is known."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    ).prepare()  # raises CycleError, which names the circle
