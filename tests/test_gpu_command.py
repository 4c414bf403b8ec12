"""`make gpu` where there is no GPU: it works, with the packages that the docs name alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Python imports it at the start of every process, those that the command starts included.
BLOCKER = """
import sys

class Others:
    finders = sys.meta_path[:]

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)

    def find_distributions(self, *context):
        from importlib.metadata import MetadataPathFinder

        return MetadataPathFinder.find_distributions(*context)

sys.meta_path[:] = [Others()]
"""


def run_without(
    folder: Path, blocked: set[str], *command: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked), encoding="utf-8")
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
    )


def needed() -> set[str]:
    """The packages that docs/benchmarks.md names, and what they require."""
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^These packages have to be there: (.+?)\.$", page, re.DOTALL | re.M)
    found: set[str] = set()
    waiting = re.findall(r"`([\w-]+)`", listed)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue  # on other systems only
        waiting += [
            requirement.name
            for requirement in requirements
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return found


def others() -> set[str]:
    """The modules of all packages that are here and not needed."""
    kept, ours = needed() | {"setuptools"}, {"seedconv-tui"}
    return {
        module
        for module, names in packages_distributions().items()
        if not {canonicalize_name(name) for name in names} & (kept | ours)
    }


def test_neither_spacy_nor_textual_is_imported(tmp_path: Path) -> None:
    imports = "import benchmarks.gpu, benchmarks.gpu_size"
    blocked = {"spacy", "textual"}
    done = run_without(tmp_path / "blocker", blocked, "-c", imports)
    assert not done.returncode, done.stderr


@pytest.mark.long
def test_it_runs_with_the_packages_that_the_docs_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    blocked = others()
    assert {"spacy", "textual"} <= blocked
    command = ("-m", "benchmarks.gpu", "--device", "cpu", "--small", "--budget", "3600")
    done = run_without(tmp_path / "blocker", blocked, *command, OUT=str(out))
    logs = [file.read_text() for file in out.glob("*.log")]
    assert not done.returncode, "\n".join([done.stderr, *logs])
    found = json.loads((out / "gpu.json").read_text(encoding="utf-8"))["gpu"]
    assert found["tests"]["skipped"] or found["tests"]["passed"]
    assert set(found["tests"]) <= {"passed", "skipped"}
    tiny = found["sizes"]["tiny"]
    assert not tiny["skipped"]
    assert tiny["bare"]["forward_float32_tokens_a_second"] > 0
    assert tiny["none, compiled"]["said"]
    for kept in ("dense", "factored", "none", "none, compiled"):
        assert tiny[kept]["tokens_a_second"] > 0
        assert tiny[kept]["over_the_larger"] > 0
        assert "tiny " + kept in done.stdout


def test_what_the_time_does_not_suffice_for_is_named(tmp_path: Path) -> None:
    command = ("-m", "benchmarks.gpu", "--device=cpu", "--small", "--no-tests", "--budget=0")
    done = run_without(tmp_path / "blocker", set(), *command, OUT=str(tmp_path / "out"))
    assert done.returncode == 1
    assert "tiny: no time left" in done.stdout
