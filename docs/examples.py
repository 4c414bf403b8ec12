"""Run the examples of pages, renew the output they quote: `python docs/examples.py [PAGE ...]`.

A page has a folder of its own (`PAGES` says what lies in it), in which its blocks are run in order:

- ```console: lines after `$ ` are commands, what follows is their output, on both streams;
- ```python: run in one namespace a page; output that the page quotes stands in a ```text below it,
  after the line `<!-- prints -->`.

In the line before a block, `<!-- not run: WHY -->` leaves it out, `<!-- background -->` starts its
commands and goes on, and `<!-- varies -->` compares the last line of its output only.

A block whose output says the same stays as it is, unless `--all` asks for all. Where models are
trained, digits and curves may differ. With `--check` nothing is written; a page whose output
differs ends it with status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # of tests.support, which makes small models

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_CURVES = re.compile("[\u2500-\u28ff]+")  # boxes, blocks and dots
_DEMO = "SEEDCONV_DEMO"  # the variable of `--demo`
_HOST = re.compile(r'"host": "[^"]*"')
_NUMBER = re.compile(r"\d[\d,.:]*")


# -- what lies in a page's folder ------------------------------------------------------------------

Names = dict[str, Any]


def random_study(folder: Path) -> Names:
    """Write a study of random values, alike everywhere."""
    from tests.support.made_store import Clock, fill, open_writer

    writer = open_writer(folder / "study.zarr", Clock())
    fill(writer, "my-model", ["1", "2", "3"], [0, 8, 1000])
    writer.close("finished")
    return {}


def exported_study(folder: Path) -> Names:
    """Write a study of random values, and tables of it."""
    random_study(folder)
    for name, table in (
        ("tokens.csv", "tokens"),
        ("seeds.csv", "seeds"),
        ("tokens.parquet", "tokens"),
    ):
        seedconv(folder, "export", "study.zarr", "--what", table, "-o", name)
    return {}


def study_with_a_failure(folder: Path) -> Names:
    """Write a study in which one checkpoint failed, its messages, and a study file not yet run."""
    from tests.support.broken_checkpoints import set_weights
    from tests.support.tiny_models import make_runs, write_study

    make_runs(folder, steps=(0, 8, 16))
    spoil = set_weights(lambda weights: {name: value / 0 for name, value in weights.items()})
    spoil(folder / "runs" / "seed2" / "step8")
    write_study(folder, models__name="tiny", study__name="demo")
    shell(folder, "seedconv run study.toml --notify 'tee message.json' || true")
    write_study(folder, models__name="tiny", study__name="demo", study__store="live.zarr")
    return {}


def training_script(folder: Path) -> Names:
    """Write a study file, and return what a script has that saves checkpoints."""
    from tests.support.tiny_models import write_study

    write_study(folder, models__name="my-model")
    model = SimpleNamespace(save_pretrained=lambda path: Path(path).mkdir(parents=True))
    return {"model": model, "Trainer": lambda *_, callbacks: callbacks}


def captured_model(folder: Path) -> Names:
    """Return what a training loop has, and write a study of checkpoints of its model."""
    from tests.support.nano import make_nano
    from tests.support.tiny_models import make_runs, write_study

    make_runs(folder, steps=(1000, 2000))
    options = {
        "models__name": "my-model",
        "categories__include": ["frequency", "pos"],
        "categories__tagger": "rules",
    }
    write_study(folder, **options)
    seedconv(folder, "run", "study.toml")
    captured = {"models__name": "my-model", "models__source": "captured", "models__steps": [0, 8]}
    write_study(folder, study__store="captured.zarr", **captured, models__seeds=[1, 2])
    seedconv(folder, "order", "study.toml")
    return {"model": make_nano(300, 1), "Trainer": lambda *_, callbacks: callbacks}


def probed_study(folder: Path) -> Names:
    """Write a study with both kinds of probes."""
    from tests.support.probe_studies import write_probes
    from tests.support.tiny_models import make_runs, write_study

    make_runs(folder, steps=(1000,))
    file = write_study(folder, models__name="pythia-14m")
    write_probes(folder, file)
    text = file.read_text(encoding="utf-8")
    text = text.replace('name = "pairs"', 'name = "blimp"').replace('name = "long"', 'name = "icl"')
    file.write_text(text, encoding="utf-8")
    seedconv(folder, "run", "study.toml")
    return {}


def demonstrated(folder: Path) -> Names:
    """Run the demo; or take one that was run, where `--demo` says."""
    if there := os.environ.get(_DEMO):
        (folder / "seedconv-demo").symlink_to(Path(there).absolute())
    else:
        seedconv(folder, "demo", "--headless", "--keep")
    return {}


def clone(folder: Path) -> Names:
    """Copy the examples of the project."""
    ignored = shutil.ignore_patterns("three_seeds", "__pycache__")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)
    return {}


@dataclass(frozen=True)
class Setting:
    """How the examples of some pages, one after the other in one folder, are run."""

    pages: tuple[str, ...]
    prepare: Callable[[Path], Names]
    trained: bool = False  # so that digits differ from machine to machine


PAGES = (
    Setting(("README.md",), captured_model),
    Setting(("docs/watching.md",), training_script),
    Setting(("docs/export.md",), exported_study),
    Setting(("docs/store-format.md",), random_study),
    Setting(("docs/probes.md",), probed_study),
    Setting(("docs/alerts.md", "docs/status.md"), study_with_a_failure, trained=True),
    Setting(("docs/comparisons.md", "docs/uncertainty.md"), demonstrated, trained=True),
    Setting(
        ("docs/tutorial-first-results.md", "docs/tutorial-live.md", "docs/tutorial-paper.md"),
        clone,
        trained=True,
    ),
)


# -- running ---------------------------------------------------------------------------------------


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a shell in which `seedconv` is ours, and nothing is kept."""
    tools = folder.parent / "bin"
    if not tools.exists():
        tools.mkdir()
        for name, module in ("python", ""), ("seedconv", " -m seedconv_tui"):
            text = f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n'
            (tools / name).write_text(text, encoding="utf-8")
            (tools / name).chmod(0o755)
    return {
        **os.environ,
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
        "XDG_STATE_HOME": str(folder.parent / "state"),
    }


def seedconv(folder: Path, *words: str) -> None:
    """Run a command. Exit with what it prints if it fails."""
    shell(folder, " ".join(["seedconv", *words]))


def shell(folder: Path, command: str) -> str:
    """Return what a command prints on both streams. Exit with it if the command fails."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"$ {command}\n{done.stdout}\nexit code {done.returncode}")
    return _HOST.sub('"host": "gpu-1"', done.stdout).replace(str(folder), ".")


@dataclass
class Run:
    """The examples of a page, run in order."""

    page: str
    folder: Path
    names: Names
    printed: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def block(self, match: re.Match[str]) -> str:
        """Run one block; return it with the output that it has now."""
        mark, kind, text = match["mark"] or "", match["kind"], match["text"]
        if mark.startswith("not run: "):
            return match[0]
        if kind == "console":
            text = "".join(self.commands(text, background=mark == "background"))
        elif kind == "python":
            text = self.python(text, match.start())
        elif mark == "prints":
            text = self.printed
        head = f"<!-- {mark} -->\n" if mark else ""
        return f"{head}```{kind}\n{text}```"

    def commands(self, text: str, *, background: bool) -> Iterator[str]:
        """Yield the commands of a block, each with its output."""
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)\n", text, re.MULTILINE):
            yield f"$ {command}\n"
            if background:
                process = subprocess.Popen(
                    ["bash", "-c", command],
                    cwd=self.folder,
                    env=environment(self.folder),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                self.started.append(process)
                continue
            printed = "\n".join(line.rstrip() for line in shell(self.folder, command).splitlines())
            yield f"{printed}\n" if printed else ""

    def python(self, text: str, at: int) -> str:
        """Run a block of Python; return it as it is."""
        printed = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(compile(text, f"{self.page}, character {at}", "exec"), self.names)
        self.printed = printed.getvalue()
        return text

    def end(self) -> None:
        """Wait for what was started. Exit if it failed."""
        for process in self.started:
            if process.wait():
                sys.exit(f"{self.page}: what it starts in the background failed")

    def stop(self) -> None:
        """End what was started and still runs."""
        for process in self.started:
            process.terminate()


def same(old: re.Match[str], new: re.Match[str], *, trained: bool) -> bool:
    """Return whether two blocks say the same."""
    texts = [match["text"].rstrip() for match in (old, new)]
    if old["mark"] == "varies":
        commands = [re.findall(r"^\$ .*", text, re.MULTILINE) for text in texts]
        if commands[0] != commands[1]:
            return False
        texts = [text.splitlines()[-1] for text in texts]
    if trained:
        texts = [loosely(text) for text in texts]
    return texts[0] == texts[1]


def loosely(text: str) -> str:
    """Return output without what differs from one training, hour or machine to another."""
    text = _NUMBER.sub("0", _CURVES.sub("", text))
    text = re.sub(r"\b0 (?:s|min|h|day)\b", "0 s", re.sub(r"\b0 (?:bytes|.?B)\b", "0 bytes", text))
    return " ".join(re.sub(r"[*<]", "", text).split())


def renewed(
    page: str, folder: Path, names: Names, *, trained: bool, whole: bool
) -> tuple[str, str]:
    """Return a page as it is, and with the output that differs, or all if `whole`, renewed."""
    before = (ROOT / page).read_text(encoding="utf-8")
    run = Run(page, folder, names)
    parts, last = [], 0
    try:
        for old in _BLOCK.finditer(before):
            text = run.block(old)
            new = _BLOCK.match(text)
            assert new is not None
            kept = not whole and same(old, new, trained=trained)
            parts += [before[last : old.start()], old[0] if kept else text]
            last = old.end()
        run.end()
    finally:
        run.stop()  # where a command failed
    return before, "".join([*parts, before[last:]])


def main() -> None:
    """Renew or check the pages that are named; all if none is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as docs/export.md")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--all", action="store_true", help="write also output that says the same")
    parser.add_argument("--demo", metavar="DIR", help="folder of a demo, kept with --keep")
    options = parser.parse_args()
    if options.demo:
        os.environ[_DEMO] = options.demo
    known = {page for setting in PAGES for page in setting.pages}
    if unknown := {*options.pages} - known:
        sys.exit(f"{', '.join(sorted(unknown))}: not among {', '.join(sorted(known))}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    wrong = []
    for setting in PAGES:
        if options.pages and not {*options.pages} & {*setting.pages}:
            continue
        with tempfile.TemporaryDirectory(prefix="seedconv-docs-") as place:
            folder = Path(place) / "work"
            folder.mkdir()
            names = setting.prepare(folder)
            for page in setting.pages:
                before, after = renewed(
                    page, folder, dict(names), trained=setting.trained, whole=options.all
                )
                if before == after:
                    continue
                wrong.append(page)
                lines = difflib.unified_diff(
                    before.splitlines(), after.splitlines(), page, "now", n=1
                )
                print("\n".join(lines))
                if not options.check:
                    (ROOT / page).write_text(after, encoding="utf-8")
    if options.check and wrong:
        sys.exit(f"{', '.join(wrong)}: output differs. Run `python docs/examples.py`.")


if __name__ == "__main__":
    main()
