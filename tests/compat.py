"""Install the lowest and the newest packages that pyproject.toml allows, and run tests with them.

    python -m tests.compat [NAME ...] [--keep FOLDER] [-- OPTIONS OF UV]

Each environment is made by uv in a folder of its own, and deleted afterwards: one at a time, as
one with torch takes up to 6 GB. The package is installed from here as users install it, with its
extras; tests come from here too. `-- --find-links DIR` takes packages from a folder first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What runs the tests, and reads what they export; not part of the bounds, so always new.
RUNNER = ["pandas>=3.1", "pytest>=9", "pytest-asyncio>=1.5", "pytest-xdist>=3.8", "pyte>=0.8.2"]

# The terminal and the store, on studies that neither torch nor scipy has to make.
VIEWER = [
    "tests/seedconv_tui/test_chart.py",
    "tests/seedconv_tui/test_tui_app.py",
    "tests/seedconv_tui/test_tui_runs.py",
    "tests/store/test_commits.py",
]

# From checkpoints to numbers, tables and figures, on checkpoints of real architectures.
ENGINE = [
    "tests/end_to_end/test_cli.py",
    "tests/engine/test_numbers.py",
    "tests/engine/test_probes.py",
    "tests/engine/test_representations.py",
    "tests/engine/test_sources_hub.py",
    "tests/engine/test_tagging.py",
    "tests/seedconv_tui/test_export.py",
    "tests/seedconv_tui/test_report.py",
    "tests/seedconv_tui/test_serve.py",
    "tests/store/test_contract.py",
    "tests/store/test_regression.py",
]
EXTRAS = "[analysis,engine,remote,report,web,xarray]"


@dataclass(frozen=True)
class Environment:
    """A Python, packages at one end of their bounds, and the tests that these must pass."""

    name: str
    python: str
    resolution: str  # uv's: "lowest-direct" or "highest"
    extras: str
    tests: list[str]


ENVIRONMENTS = [
    Environment("viewer-3.11-lowest", "3.11", "lowest-direct", "", VIEWER),
    Environment("viewer-3.11-newest", "3.11", "highest", "", VIEWER),
    Environment("viewer-3.12-newest", "3.12", "highest", "", VIEWER),
    Environment("viewer-3.13-newest", "3.13", "highest", "", VIEWER),
    Environment("engine-3.11-lowest", "3.11", "lowest-direct", EXTRAS, ENGINE),
    Environment("engine-3.11-newest", "3.11", "highest", EXTRAS, ENGINE),
    Environment("engine-3.12-newest", "3.12", "highest", EXTRAS, ENGINE),
    Environment("engine-3.13-newest", "3.13", "highest", EXTRAS, ENGINE),
]


def install(environment: Environment, folder: Path, options: list[str]) -> Path:
    """Make the environment in `folder` and return its Python; `CalledProcessError` if it fails."""
    uv = [sys.executable, "-m", "uv"]
    python = folder / "bin" / "python"
    subprocess.run([*uv, "venv", "--quiet", "--python", environment.python, folder], check=True)
    add = [*uv, "pip", "install", "--quiet", "--python", python, *options]
    # A source distribution of an old package seldom builds today: a bound is one that installs.
    wheels = ["--only-binary", ":all:", "--no-binary", "seedconv-tui"]
    of_theirs = ["--resolution", environment.resolution, *wheels]
    subprocess.run([*add, *of_theirs, f"{ROOT}{environment.extras}"], check=True)
    subprocess.run([*add, *RUNNER], check=True)
    return python


def passes(environment: Environment, folder: Path, options: list[str]) -> bool:
    """Install the environment in `folder`, run its tests, and return whether all of them pass."""
    try:
        python = install(environment, folder, options)
    except subprocess.CalledProcessError:
        print(f"compat: {environment.name}: the packages could not be installed", file=sys.stderr)
        return False
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not long"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    parallel = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"]
    ended = subprocess.run([*command, *parallel, *environment.tests], cwd=ROOT, env=environ)
    return ended.returncode == 0


def main() -> int:
    """Try the environments named, or all; exit code 0 if all pass, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_names())}")
    parser.add_argument("--keep", type=Path, help="make them in this folder, and leave them there")
    ours, theirs = _split(sys.argv[1:])
    chosen = parser.parse_args(ours)
    unknown = sorted(set(chosen.names) - set(_names()))
    if unknown:
        parser.error(f"no environment {unknown[0]!r}; there are: {', '.join(_names())}")
    failed = []
    for environment in ENVIRONMENTS:
        if chosen.names and environment.name not in chosen.names:
            continue
        print(f"compat: {environment.name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="seedconv-compat-") as folder:
            where = (chosen.keep or Path(folder)).absolute() / environment.name
            if not passes(environment, where, theirs):
                failed.append(environment.name)
    print(f"compat: {'FAILED: ' + ', '.join(failed) if failed else 'ok'}")
    return 1 if failed else 0


def _names() -> list[str]:
    return [environment.name for environment in ENVIRONMENTS]


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what is before `--` and what is after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
